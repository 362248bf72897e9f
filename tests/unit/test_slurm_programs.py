"""Slurm's programs that do not answer, by stubs on PATH."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from hvd_adam.errors import RunError
from hvd_adam.study import slurm
from hvd_adam.study.slurm import Slurm


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["sbatch", "--parsable", "--job-name=s-2-ranks", "x"], r"take the job all the same.*squeue --me --name=s-2-"),
        (["squeue"], "what was submitted is noted"),
    ],
)
def test_a_program_that_does_not_answer_may_have_taken_the_job(
    command: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / command[0]).write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / command[0]).chmod(0o755)
    monkeypatch.setattr(slurm, "PATIENCE", 0.2)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(RunError) as caught:
        Slurm().submit(command)
    assert re.search(says, " ".join(str(caught.value).split()))
