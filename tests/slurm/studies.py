"""Studies on a cluster: submitted from its login node, waited for, and what came of their runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from cluster import Cluster
from conftest import TREE


def hvd_adam(cluster: Cluster, where: Path, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The command on the login node."""
    return cluster.run(sys.executable, "-m", "hvd_adam", *words, where=where, timeout=300, **more)


def here(where: Path, *words: str) -> None:
    """The command on this machine, without Slurm."""
    environment = {**os.environ, "PYTHONPATH": str(TREE)}
    command = [sys.executable, "-m", "hvd_adam", *words]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def wait_for(claim: Callable[[], Any], where: Path, patience: float = 400.0) -> None:
    """Until it is true; the logs of all jobs where it does not come true."""
    deadline = time.monotonic() + patience
    while not claim():
        if time.monotonic() > deadline:
            logs = "".join(f"\n{p.name}: {p.read_text()[-1500:]}" for p in sorted(where.glob("**/log/*.out")))
            raise AssertionError(f"waited {patience:g} s in vain{logs}")
        time.sleep(0.5)


def queued(cluster: Cluster, study: str) -> list[str]:
    """The jobs of a study that have not ended, as Slurm writes them."""
    shown = cluster.run("squeue", "--array", "--noheader", "--format=%i|%j").stdout.split()
    return [line.partition("|")[0] for line in shown if line.partition("|")[2].startswith(f"{study}-")]


def node_hours(cluster: Cluster, study: str) -> dict[str, float]:
    """What each of a study's arrays has used, by Slurm's own record: nodes x (end - start), whole seconds."""
    lines = (cluster.folder / "log" / "jobcomp").read_text().splitlines()
    facts = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]
    used: dict[str, float] = {}
    for one in facts:
        if one["Name"].startswith(f"{study}-") and not one["Name"].endswith("-report"):
            span = datetime.fromisoformat(one["EndTime"]) - datetime.fromisoformat(one["StartTime"])
            used[one["Name"]] = used.get(one["Name"], 0) + int(one["NodeCnt"]) * span.total_seconds() / 3600
    return used


def steps(folder: Path) -> dict[str, tuple[int, str]]:
    """What each run came to."""
    found = {}
    for path in sorted(folder.glob("**/seed-*/result.json")):
        result = json.loads(path.read_text())
        found[str(path.parent.relative_to(folder))] = (result["step"], result["ended_by"])
    return found


def starts(folder: Path) -> dict[str, list[int]]:
    """The step that each launch of each run began after."""
    files = folder.glob("**/seed-*/environment.json")
    return {
        str(path.parent.relative_to(folder)): [
            launch["resumed_from"] for launch in json.loads(path.read_text())["launches"]
        ]
        for path in files
    }


def calls(said: str) -> list[str]:
    """The calls of sbatch that were shown, without the numbers that Slurm gave."""
    found = [line for line in said.splitlines() if line.startswith("+ sbatch")]
    return [re.sub(r"'?--dependency=afterany:\S+", "--dependency=JOBS", line) for line in found]
