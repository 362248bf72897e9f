"""A probe on any number of ranks measures what one rank measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvd_adam.comm import World
from hvd_adam.comm.solo import SoloWorld
from hvd_adam.config import from_plain
from hvd_adam.probe.run import probe

CONFIG = {
    "name": "shared",
    "task": {"name": "quadratic", "d": 20, "condition": 10, "sigma": 3.0},
    "algorithm": {"name": "adam", "lr": 0.02},
    "workers": 4,
    "local_batch": 2,
    "steps": 40,
    "sampling": "replacement",
    "precision": "float64",
}


def test_pairs_and_curvature_do_not_depend_on_the_ranks(
    world: World, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Path(world.allgather_bytes(str(tmp_path_factory.mktemp("probe")).encode())[0].decode())
    monkeypatch.chdir(shared)
    found = probe(from_plain(CONFIG), seconds=3600.0, world=world)
    assert (found is not None) == (world.rank == 0)
    if found is None:
        return
    alone = probe(from_plain(CONFIG), seconds=3600.0, run="alone", world=SoloWorld())
    assert alone is not None
    assert found.measured.worker_square == pytest.approx(alone.measured.worker_square, rel=1e-9)
    assert found.measured.mean_square == pytest.approx(alone.measured.mean_square, rel=1e-9)
    assert [p.value for p in found.measured.curvature] == pytest.approx([p.value for p in alone.measured.curvature])
    assert found.measured.ranks == world.size
