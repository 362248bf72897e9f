"""Tests that pass on 1, 2 or 4 ranks, since they read the size.

launchers/mpirun -n 2 -- python -m pytest tests/parallel
"""

from __future__ import annotations

import gc
import json
import os

import pytest
import torch

from hvd_adam.comm import World, init, mpi
from hvd_adam.optim import divided

torch.set_num_threads(1)
os.environ.setdefault("HOROVOD_CYCLE_TIME", "1")  # milliseconds; ranks of one machine would choose more

_WORLDS: dict[str, World] = {}
TWO_EACH = "machines of two ranks"
ENGINES = ["horovod", "horovod, divided steps", "direct", "all by horovod", "mpi"]
if int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1")) > 2:
    ENGINES += [TWO_EACH, f"{TWO_EACH}, divided steps"]


def open_world(engine: str) -> World:
    """One world of each engine for the whole session.

    "horovod" sums in shared memory, "direct" as ranks on machines of their own do, "machines of two ranks" as if there
    were several of them, "all by horovod" as machines of unequally many ranks, and "mpi" is plain MPI.
    """
    if engine not in _WORLDS:
        with pytest.MonkeyPatch.context() as patch:
            if engine == TWO_EACH:
                patch.setattr(mpi, "of_this_machine", lambda comm: comm.Split(comm.Get_rank() // 2))
            elif engine != "horovod":
                patch.setenv("HVD_ADAM_SUMS", engine.removeprefix("all by "))
            _WORLDS[engine] = init("mpi" if engine == "mpi" else "horovod")
    return _WORLDS[engine]


def maps() -> int:
    """How much memory of ours is mapped, in pieces, after what nobody needs is gone."""
    gc.collect()  # a model and its optimizer know each other
    with open("/proc/self/maps") as lines:
        return sum("memfd:hvd_adam" in line for line in lines)


class Finishing:
    """Adds its place to each number; by whom each was finished."""

    def __init__(self) -> None:
        self.mine: list[tuple[int, int]] = []  # begin and length of what this rank was given

    def __call__(self, part: torch.Tensor, begin: int) -> float:
        """Gives the sum of that part."""
        self.mine.append((begin, part.numel()))
        part.add_(torch.arange(begin, begin + part.numel()))
        return float(part.sum())

    def check(self, world: World, total: float, length: int) -> list[list[tuple[int, int]]]:
        """That all numbers were finished once, where each was 1 before; everybody's parts."""
        assert total == pytest.approx(length * (length + 1) / 2, rel=1e-14)
        everyones = [json.loads(one) for one in world.allgather_bytes(json.dumps(self.mine).encode())]
        places = sorted(place for one in everyones for place in one)
        assert [begin + count for begin, count in places] == [*(begin for begin, _ in places[1:]), length]
        return everyones


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    """Ranks of each engine; with divided steps, those of models of any size are, as elsewhere those of large ones."""
    engine, _, steps = request.param.partition(", ")
    if steps:
        monkeypatch.setattr(divided, "SMALLEST", 1)
    return open_world(engine)


def pytest_sessionfinish() -> None:
    if "mpi" in _WORLDS:
        _WORLDS["mpi"].barrier()


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("OMPI_COMM_WORLD_RANK", "0") != "0":
        config.option.verbose = -2
