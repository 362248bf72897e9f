"""A rank that raises, exits or is killed in the middle of a step ends the job everywhere, and not with 0."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
LIMIT = 10.0  # seconds from the fault to the end of the job

SCRIPT = """
import os, signal, sys, time, torch
import hvd_adam
world = hvd_adam.init()
weight = torch.nn.Parameter(torch.zeros(1000))
optimizer = hvd_adam.DistributedOptimizer(hvd_adam.GenericAdam([weight]), world)
for step in range(1, 6):
    (weight * step).sum().backward()
    if step == 3 and world.rank == world.size - 1:
        open({clock!r}, "w").write(str(time.time()))
        {fault}
    optimizer.step()
    optimizer.zero_grad()
time.sleep(60)
"""

FAULTS = {
    "raises": "raise ValueError('a fault of the user')",
    "exits with 1": "os._exit(1)",
    "exits with 0": "os._exit(0)",
    "is killed": "os.kill(os.getpid(), signal.SIGKILL)",
}

pytestmark = pytest.mark.skipif(
    "OMPI_COMM_WORLD_SIZE" in os.environ, reason="starts jobs of its own: runs outside of one"
)


CAMPAIGN = os.environ.get("HVD_ADAM_CAMPAIGN", "")  # make campaign: 20 times
CASES = [(launcher, fault, ranks) for launcher in ("mpirun", "horovodrun") for fault in FAULTS for ranks in (2, 4)]


@pytest.mark.parametrize(("launcher", "fault", "ranks"), CASES * (20 if CAMPAIGN else 1))
def test_a_rank_that_ends_early_ends_the_job(
    launcher: str, fault: str, ranks: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    script = tmp_path / "job.py"
    clock = tmp_path / "fault"
    script.write_text(SCRIPT.format(fault=FAULTS[fault], clock=str(clock)))
    command = [str(TREE / "launchers" / launcher), "-n", str(ranks), "--", sys.executable, str(script)]
    # under horovodrun with Horovod's own sums, as between machines of unequally many ranks; under mpirun as on one
    environment = {**os.environ, "HVD_ADAM_SUMS": "horovod"} if launcher == "horovodrun" else None
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment)
    seconds = time.time() - float(clock.read_text())
    record_property("seconds from the fault to the end", round(seconds, 2))
    assert seconds <= LIMIT, done.stdout + done.stderr
    assert done.returncode != 0
    if fault == "raises":
        assert done.stderr.count("ValueError: a fault of the user") == 1
        assert f"rank {ranks - 1} on " in done.stderr


CLOSING = """
import contextlib, torch, hvd_adam
with contextlib.closing(hvd_adam.init({engine!r})) as world:
    memory = {memory}
    for call in range(3):
        if call == 2 and world.rank == 1:
            raise ValueError('a fault of the user')
        world.wait(world.start_allreduce(memory, "sum"))
"""


@pytest.mark.parametrize("engine", ["horovod", "mpi"])
@pytest.mark.parametrize("memory", ["torch.ones(10)", "world.zeros(10, torch.float32, torch.device('cpu'))"])
def test_a_world_that_is_closed_by_an_exception_holds_nobody_up(engine: str, memory: str, tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(CLOSING.format(engine=engine, memory=memory))
    command = [str(TREE / "launchers/mpirun"), "-n", "2", "--", sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and done.stderr.count("ValueError: a fault of the user") == 1


LEAVER = """
import sys, time, torch
import hvd_adam, hvd_adam.comm.mpi
if {sums!r} == "machines of two":
    hvd_adam.comm.mpi.of_this_machine = lambda comm: comm.Split(comm.Get_rank() // 2)
world = hvd_adam.init({engine!r})
memory = {memory}
for call in range(3):
    if call == 2 and world.rank == world.size - 1:
        open({clock!r}, "w").write(str(time.time()))
        sys.exit({code})
    world.wait(world.start_allreduce(memory, "sum"))
"""
MEMORY = {"own": "torch.ones(10)", "shared": "world.zeros(10, torch.float32, torch.device('cpu'))"}


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize(
    ("engine", "memory", "sums"),
    [
        ("horovod", "own", ""),
        ("horovod", "shared", ""),
        ("horovod", "shared", "machines of two"),
        ("horovod", "own", "direct"),
        ("mpi", "own", ""),
    ],
)
def test_a_rank_that_leaves_python_is_not_waited_for(
    engine: str, memory: str, sums: str, code: int, tmp_path: Path
) -> None:
    """It still waits in MPI_Finalize for the others: mpirun sees nothing wrong."""
    script, clock = tmp_path / "job.py", tmp_path / "fault"
    script.write_text(LEAVER.format(engine=engine, code=code, clock=str(clock), memory=MEMORY[memory], sums=sums))
    last = 3 if sums == "machines of two" else 2
    command = [str(TREE / "launchers/mpirun"), "-n", str(last + 1), "--", sys.executable, str(script)]
    environment = {**os.environ, "HVD_ADAM_SUMS": sums if sums == "direct" else ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment)
    assert time.time() - float(clock.read_text()) <= LIMIT, done.stderr
    assert done.returncode == 1 and f"hvd-adam: rank {last} has left Python; rank 0 on " in done.stderr


def test_numbers_for_a_rank_that_has_left_python_are_not_written_to_memory_that_it_has_given_back(
    tmp_path: Path,
) -> None:
    """The others send theirs a while after it has gone; malloc returns all that is large to the system."""
    script = tmp_path / "job.py"
    script.write_text(
        "import sys, time, torch, hvd_adam\nworld = hvd_adam.init()\n"
        "for call in range(3):\n"
        "    numbers = torch.ones(3_000_000)\n"
        "    if call == 2 and world.rank > 0:\n        time.sleep(1.5)\n"
        "    handle = world.start_allreduce(numbers, 'sum')\n"
        "    if call == 2 and world.rank == 0:\n        sys.exit()\n"
        "    world.wait(handle)\n"
    )
    command = [str(TREE / "launchers/mpirun"), "-n", "3", "--", sys.executable, str(script)]
    environment = {**os.environ, "HVD_ADAM_SUMS": "direct", "HVD_ADAM_PLAIN": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment)
    assert done.returncode == 1 and "hvd-adam: rank 0 has left Python" in done.stderr, done.stderr
    assert "signal" not in done.stderr.lower()


@pytest.mark.parametrize("engine", ["horovod", "mpi"])
def test_ranks_may_leave_one_after_the_other_once_their_work_is_done(engine: str, tmp_path: Path) -> None:
    """Rank 0 has something to write, and nobody says close()."""
    script = tmp_path / "job.py"
    script.write_text(
        f"import time, torch, hvd_adam\nworld = hvd_adam.init({engine!r})\n"
        "world.wait(world.start_allreduce(torch.ones(10), 'sum'))\n"
        "if world.rank == 0:\n    time.sleep(3)\n    print('written')\n"
    )
    command = [str(TREE / "launchers/mpirun"), "-n", "2", "--", sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout) == (0, "written\n"), done.stderr
