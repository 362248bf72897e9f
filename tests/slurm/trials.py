"""Jobs of train.sbatch that a test disturbs, and whether what came of them is what an undisturbed run gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from cluster import Cluster
from conftest import TREE
from jobs import submit

EVERY, STEPS = 20, 60
CONFIG = (
    TREE / "configs/digits-exact.yaml", f"steps={STEPS}", f"checkpoint.every={EVERY}", f"evaluate.every={EVERY}",
    "workers=4", "evaluate.chunk=50",
)  # fmt: skip
LAUNCH = ("seconds", "ranks", "reached")  # what a clock says, or belongs to a launch


def told(run: Path) -> tuple[list[Any], dict[str, Any]]:
    """What the trace and the result say of the training."""
    lines = [json.loads(line) for line in (run / "trace.jsonl").read_text().splitlines()]
    trace = [{k: v for k, v in line.items() if k not in LAUNCH} for line in lines if line["kind"] != "start"]
    return trace, {k: v for k, v in json.loads((run / "result.json").read_text()).items() if k not in LAUNCH}


def equals(run: Path, truth: Path) -> bool:
    weights, true = (torch.load(path / "model.pt", weights_only=True) for path in (run, truth))
    return told(run) == told(truth) and all(torch.equal(weights[name], true[name]) for name in true)


class Trial:
    """A job that goes on slowly until `release`, and the place where its run writes."""

    def __init__(
        self, cluster: Cluster, folder: Path, name: str, *options: str, more: tuple[str, ...] = (), **environment: str
    ) -> None:
        self.cluster, self.run, self.hold = cluster, folder / name, folder / f"hold {name}"
        self.hold.touch()
        words = (*options, TREE / "slurm/train.sbatch", *CONFIG, *more, "--run", self.run)
        where = folder / f"from {name}"
        where.mkdir()
        slow = {"PYTHONPATH": f"{TREE}/tests/slurm/faults:{TREE}", "TEST_HOLD": str(self.hold), "TEST_PAUSE": "0.5"}
        self.job = submit(cluster, *words, where=where, **{**slow, **environment})

    def reach(self, step: int) -> None:
        """Waits until so many steps are made."""
        trace = self.run / "trace.jsonl"
        self.job.wait(lambda: trace.exists() and trace.read_text().count('"kind": "step"') >= step)

    def ask(self, *command: str) -> None:
        number = str(self.job.number)
        words = [word.replace("JOB", number) for word in command]
        done = self.cluster.run(*words)
        assert done.returncode == 0, done.stderr

    def release(self) -> None:
        """Once it has been queued again: it may go on at full speed."""
        self.job.wait(lambda: self.job.facts()["Restarts"] != "0")
        self.hold.unlink()

    def starts(self) -> list[int]:
        """The step that each launch began after."""
        launches = json.loads((self.run / "environment.json").read_text())["launches"]
        return [launch["resumed_from"] for launch in launches]
