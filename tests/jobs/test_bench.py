"""The benchmarks' jobs start, take turns and end; what they measured is their own affair."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hvd_adam.bench.crews import Crews, Job
from hvd_adam.bench.peers import PEERS
from hvd_adam.errors import RunError
from hvd_adam.launchers import launcher

pytestmark = pytest.mark.skipif(
    "OMPI_COMM_WORLD_SIZE" in os.environ, reason="starts jobs of its own: runs outside of one"
)
BENCH = [sys.executable, "-m", "hvd_adam", "bench"]


def stations(mark: str) -> list[int]:
    """Processes of a benchmark's jobs that work in that folder."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                at_work = b"hvd_adam.bench.station" in (place / "cmdline").read_bytes()
                if at_work and os.readlink(place / "cwd") == mark:
                    found.append(int(place.name))
            except OSError:
                continue  # it has ended
    return found


def stands_still(process: int) -> bool:
    """Whether a signal has stopped it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False  # it has ended


def test_peers_take_turns_and_leave_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "step.json"
    command = [*BENCH, "step", "--model", "lenet", "--peers", "bare,ddp-fused", "--rounds", "2", "--samples", "2"]
    done = subprocess.run([*command, "--out", str(out)], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())["comparisons"][0]
    rows = {(row["peer"], row["surroundings"]): row for row in found["rows"]}
    assert len(rows) == 5
    assert all(len(row["seconds"]) == 2 and min(row["seconds"]) > 0 for row in rows.values())
    assert rows["hvd_adam", "launcher's"]["memory"] > 4 * 431_080 * 4  # parameters, gradients and two moments
    assert stations(str(tmp_path)) == []


def test_a_benchmark_that_is_ended_takes_its_jobs_with_it(tmp_path: Path) -> None:
    """Also those that stand still, and however hard it is ended."""
    command = [*BENCH, "allreduce", "--largest", "1K", "--rounds", "1000"]
    driver = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert driver.stderr is not None
    deadline = time.monotonic() + 60
    while sum(stands_still(process) for process in stations(str(tmp_path))) < 2:  # the ranks of the first job
        assert time.monotonic() < deadline
        time.sleep(0.2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    deadline = time.monotonic() + 30
    while stations(str(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_an_interrupt_keeps_what_was_measured_and_ends_the_jobs(tmp_path: Path) -> None:
    out = tmp_path / "step.json"
    command = [*BENCH, "step", "--model", "1e4", "--peers", "bare", "--rounds", "100000", "--turn", "0.01"]
    driver = subprocess.Popen(
        [*command, "--out", str(out)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    deadline = time.monotonic() + 200
    while not out.exists():
        assert time.monotonic() < deadline and driver.poll() is None
        time.sleep(0.2)
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert said.endswith(f"interrupted: what was measured is in {out}\n")
    rows = json.loads(out.read_text())["comparisons"][0]["rows"]
    assert len(rows) == 3 and len({len(row["seconds"]) for row in rows}) == 1 and rows[0]["seconds"]
    assert stations(str(tmp_path)) == []


def test_a_job_that_does_not_start_is_left_out_unless_it_is_needed() -> None:
    good = Job("good", 1, {"build": "exchange", "engine": "mpi", "piece": 0})
    bad = Job("bad", 1, {"build": "exchange", "engine": "none such", "piece": 0})
    with Crews([good, bad], needed=["good"]) as crews:
        assert "none such" in crews.failed["bad"]
        assert list(next(crews.rounds(1, 3, 1024))) == ["good"]
    with pytest.raises(RunError, match="bad"), Crews([good, bad]):
        pass


ENVIRONMENT = """
import json, os, sys
from hvd_adam.bench.station import _build
order = {"build": "step", "peer": sys.argv[1], "model": "lenet", "samples": 2, "dtype": "float32"}
before = dict(os.environ)
_build({**order, "rank": 0, "ranks": 1, "store": f"file://{sys.argv[2]}"})
changed = sorted(name for name in os.environ if os.environ[name] != before.get(name))
print(json.dumps([changed, sorted(name for name in sys.modules if name.startswith("hvd_adam.comm"))]))
"""


@pytest.mark.parametrize("peer", [name for name in PEERS if name.startswith(("horovod", "ddp", "bare"))])
def test_a_peer_as_installed_gets_nothing_of_ours(peer: str, tmp_path: Path) -> None:
    """What we set for Open MPI would make stock Horovod's thread yield, and its step half as long."""
    if PEERS[peer].why_not("float32"):
        pytest.skip(PEERS[peer].why_not("float32"))
    command = [str(launcher("mpirun")), "-n", "1", "--", sys.executable, "-c", ENVIRONMENT, peer]
    environ = {**os.environ, "HVD_ADAM_PLAIN": "1"}
    done = subprocess.run([*command, str(tmp_path / "store")], env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    changed, ours = json.loads(done.stdout.splitlines()[-1])
    assert not [name for name in changed if name.startswith(("OMPI_", "MALLOC_", "HOROVOD_", "OMP_", "HVD_ADAM"))]
    assert not ours


def test_optimizers_are_timed_on_ranks_that_step_at_the_same_time(tmp_path: Path) -> None:
    command = [*BENCH, "optimizer", "--parameters", "100x10", "--peers", "torch default", "--rounds", "1"]
    done = subprocess.run([*command, "--out", "o.json"], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "o.json").read_text())["timings"][0]
    assert found["ranks"] == 2 and len(found["rows"]) == 2
    assert all(len(s) == 1 and s[0] > 0 for row in found["rows"] for s in (row["ours"], row["seconds"]))
    assert stations(str(tmp_path)) == []


def test_a_step_grows_and_holds_memory_as_it_is_read(tmp_path: Path) -> None:
    """The jobs of `scale` and of `memory`: a number for every point; peaks hold parameters, gradients and moments."""
    command = [*BENCH, "scale", "--model", "lenet", "--parameters", "1e4", "--ranks", "2", "--workers", "1,3"]
    done = subprocess.run(
        [*command, "--rounds", "1", "--out", "s.json"], cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    points = json.loads((tmp_path / "s.json").read_text())["points"]
    assert [(p["model"], p["workers"], p["samples"]) for p in points] == [
        ("lenet", 1, 64), ("lenet", 3, 192), ("1e4", 1, 2),
    ]  # fmt: skip
    command = [*BENCH, "memory", "--model", "1e7", "--rounds", "1", "--out", "m.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    held = json.loads((tmp_path / "m.json").read_text())["held"][0]
    assert held["ours"][0] > 4 * held["parameters"] and held["bare"][0] > 2 * held["parameters"]
    assert stations(str(tmp_path)) == []
