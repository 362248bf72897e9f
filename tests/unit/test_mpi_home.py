"""What Open MPI is told before it opens, and what the user has said, which stays."""

from __future__ import annotations

import os

import pytest

from hvd_adam.comm import mpi_home


def test_a_place_that_the_user_has_named_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPAL_PREFIX", "/opt/theirs")
    mpi_home.name_mpi_home()
    assert os.environ["OPAL_PREFIX"] == "/opt/theirs"


@pytest.mark.parametrize(
    ("theirs", "found"),
    [({}, "1"), ({"OMPI_MCA_mpi_yield_when_idle": "0"}, "0"), ({"HVD_ADAM_PLAIN": "1"}, None)],
)
def test_open_mpi_is_told_to_yield_while_idle_unless_the_user_has_said(
    theirs: dict[str, str], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mpi_home.os, "environ", theirs)
    mpi_home.yield_while_idle()
    assert theirs.get("OMPI_MCA_mpi_yield_when_idle") == found
