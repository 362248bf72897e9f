"""A study on a real cluster: the same step counts as on one machine, and no run made twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from cluster import Cluster
from conftest import TREE

TWELVE = """
name: twelve
base: {task: {name: digits, model: softmax}, algorithm: {name: adam, lr: 0.01}, determinism: exact}
grid: {workers: [1, 2, 4], local_batch: [2, 4, 8, 16]}
seeds: [3]
targets: [{measure: loss, at_most: 0.6}]
budget: {steps: 400}
ranks: 2
max_node_hours: 5
"""


def hvd_adam(cluster: Cluster, where: Path, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The command on the login node."""
    return cluster.run(sys.executable, "-m", "hvd_adam", *words, where=where, timeout=300, **more)


def wait_for_end(cluster: Cluster, where: Path, patience: float = 400.0) -> None:
    """Until nothing of a study is in the queue."""
    deadline = time.monotonic() + patience
    while cluster.run("squeue", "-h").stdout.strip():
        if time.monotonic() > deadline:
            logs = "".join(f"\n{p.name}: {p.read_text()[-1500:]}" for p in sorted(where.glob("**/log/*.out")))
            raise AssertionError(cluster.run("squeue").stdout + logs)
        time.sleep(0.5)


def steps(folder: Path) -> dict[str, tuple[int, str]]:
    """What each run came to."""
    found = {}
    for path in sorted(folder.glob("**/seed-*/result.json")):
        result = json.loads(path.read_text())
        found[str(path.parent.relative_to(folder))] = (result["step"], result["ended_by"])
    return found


def calls(said: str) -> list[str]:
    """The calls of sbatch that were shown, without the numbers that Slurm gave."""
    found = [line for line in said.splitlines() if line.startswith("+ sbatch")]
    return [re.sub(r"'?--dependency=afterany:\S+", "--dependency=JOBS", line) for line in found]


def launches(folder: Path) -> dict[str, int]:
    """How often each run was started."""
    files = folder.glob("**/seed-*/environment.json")
    return {str(path.parent.relative_to(folder)): len(json.loads(path.read_text())["launches"]) for path in files}


def test_a_study_of_twelve_cells_ends_with_the_report_of_the_local_one(cluster: Cluster, tmp_path: Path) -> None:
    where = tmp_path / "a place with blanks"
    where.mkdir()
    (where / "twelve.yaml").write_text(TWELVE)
    words = ("study", "submit", "twelve.yaml", "--pack", "0.5", "--at-once", "2")
    shown = hvd_adam(cluster, where, *words, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert [path.name for path in (where / "runs" / "twelve").iterdir() if path.is_file()] == ["costs.json"]
    done = hvd_adam(cluster, where, *words)
    assert done.returncode == 0, done.stderr
    again = hvd_adam(cluster, where, *words)  # while the first is queued
    assert (again.returncode, "12 queued or running" in again.stdout) == (0, True), again.stdout + again.stderr
    told = hvd_adam(cluster, where, "study", "status", "runs/twelve")
    assert "12 queued or running" in told.stdout and re.search(r"job \d+_0 (queued|running)", told.stdout), told.stdout
    wait_for_end(cluster, where)
    local = subprocess.run(
        [sys.executable, "-m", "hvd_adam", "study", "run", "twelve.yaml", "--folder", "runs/local"],
        cwd=where,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TREE)},
    )
    assert local.returncode == 0, local.stderr
    theirs = steps(where / "runs" / "twelve")
    assert len(theirs) == 12 and theirs == steps(where / "runs" / "local")
    assert set(launches(where / "runs" / "twelve").values()) == {1}
    assert (where / "runs" / "twelve" / "report.html").is_file()
    nothing = hvd_adam(cluster, where, *words)
    assert (nothing.returncode, nothing.stdout) == (0, "0 runs to submit; 12 done\n")
    assert calls(shown.stdout) == calls(done.stdout)
