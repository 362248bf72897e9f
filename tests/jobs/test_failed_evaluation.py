"""An evaluation that fails on all ranks, or on one, costs no step: all save, the job ends, and --resume goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
TASK = """
import os, time
import torch
from hvd_adam.tasks.digits import Digits
from hvd_adam.training import checkpoint

save = checkpoint.save

def slow_save(*arguments):
    time.sleep(8)  # a large model's: whoever does not wait for it ends the job meanwhile
    return save(*arguments)

if "TEST_NAME" in os.environ:
    checkpoint.save = slow_save

class Faulty(Digits):
    def __init__(self, model="softmax"):
        super().__init__(model)

    def measures(self, model, batch):
        if os.environ.get("OMPI_COMM_WORLD_RANK") in os.environ.get("TEST_FAULTY", "").split():
            raise ZeroDivisionError("a fault of the task")
        return super().measures(model, batch) | ({"step": batch[0].sum()} if "TEST_NAME" in os.environ else {})
"""
CONFIG = """
task: {name: "faulty:Faulty"}
workers: 2
local_batch: 16
steps: 6
determinism: exact
evaluate: {at: [3]}
"""
WORDS: dict[int, tuple[str, ...]] = {3: (), 6: ("evaluate.at=[]",)}

pytestmark = pytest.mark.skipif(
    "OMPI_COMM_WORLD_SIZE" in os.environ, reason="starts jobs of its own: runs outside of one"
)


def start(folder: Path, run: str, faulty: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "faulty.py").write_text(TASK)
    (folder / "c.yaml").write_text(CONFIG)
    command = [str(TREE / "launchers/mpirun"), "-n", "2", "--", sys.executable, "-m", "hvd_adam", "train", "c.yaml"]
    environment = {**os.environ, **({"TEST_FAULTY": faulty} if faulty else {}), "PYTHONPATH": f"{TREE}:{folder}"}
    return subprocess.run(
        [*command, "--run", run, *words], capture_output=True, text=True, timeout=90, env=environment, cwd=folder
    )


def told(run: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (run / "trace.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines if line["kind"] in ("step", "eval")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Runs that nothing disturbed, with evaluations at step 3 and at the end, and at the end alone."""
    folder = tmp_path_factory.mktemp("whole")
    assert all(start(folder, str(at), "", *WORDS[at]).returncode == 0 for at in WORDS)
    return {at: folder / str(at) for at in WORDS}


@pytest.mark.parametrize(("faulty", "at"), [("0 1", 3), ("1", 3), ("0", 6)])
def test_it_is_saved_and_goes_on(whole: dict[int, Path], faulty: str, at: int, tmp_path: Path) -> None:
    done = start(tmp_path, "run", faulty, *WORDS[at])
    assert done.returncode != 0 and "ZeroDivisionError: a fault of the task" in done.stderr, done.stderr
    assert "line 22, in measures" in done.stderr  # where, too
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == [f"step-{at:09d}.ckpt"], done.stderr
    again = start(tmp_path, "run", "", *WORDS[at], "--resume")
    assert again.returncode == 0 and f"goes on from the checkpoint of step {at}" in again.stdout, again.stderr
    assert told(tmp_path / "run") == told(whole[at])


def test_ranks_that_refuse_alike_wait_for_the_one_that_writes(
    whole: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_NAME", "")
    done = start(tmp_path, "run", "")
    assert done.returncode == 2 and "a measure of the task's own called step" in done.stderr, done.stderr
    monkeypatch.delenv("TEST_NAME")
    again = start(tmp_path, "run", "", "--resume")
    assert again.returncode == 0 and "goes on from the checkpoint of step 3" in again.stdout, again.stderr
    assert told(tmp_path / "run") == told(whole[3])
