"""Mistakes that only a job of several ranks can make: one message, the exit code, no traceback, and it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import hvd_adam

TREE = Path(__file__).resolve().parents[2]
TRAIN = [sys.executable, "-m", "hvd_adam", "train", str(TREE / "configs" / "digits.yaml")]

pytestmark = pytest.mark.skipif(
    "OMPI_COMM_WORLD_SIZE" in os.environ, reason="starts jobs of its own: runs outside of one"
)

NAN_TASK = """
from hvd_adam.tasks.digits import Digits
import os


class Nan(Digits):
    def loss(self, model, batch):
        return super().loss(model, batch) * (float("nan") if os.environ["OMPI_COMM_WORLD_RANK"] == "1" else 1.0)
"""


def job(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(TREE / "launchers" / "mpirun"), "-n", "2", "--", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)


def refused(done: subprocess.CompletedProcess[str], code: int, *expected: str) -> None:
    """The exit code, the words, said once for all ranks, and nothing of Python's."""
    assert done.returncode == code, done.stderr
    for words in expected:
        assert done.stderr.count(words) == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def until(met: Callable[[], bool], seconds: float) -> None:
    for _ in range(int(10 * seconds)):
        if met():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s")


@pytest.mark.parametrize(
    ("override", "code", "expected"),
    [
        ("workers=3", 2, "workers: 3, started on 2 ranks"),
        ("workers=2 noise_every=-1", 2, "noise_every: -1"),
        ("locla_batch=3", 2, "Did you mean local_batch?"),
        ("task=mnist data=none", 1, "hvd-adam data get mnist"),
    ],
)
def test_what_all_ranks_find_is_said_once(override: str, code: int, expected: str, tmp_path: Path) -> None:
    refused(job(tmp_path, *TRAIN, *override.split(), "--run", "r"), code, expected)
    assert not (tmp_path / "r").exists()  # the corrected command can name it again


def test_a_task_that_raises_while_it_is_imported_is_said_once_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import os\nplace = os.environ['NO_SUCH_NAME']\n")
    refused(job(tmp_path, *TRAIN, "task=mine:Mine", "--run", "r"), 2, "KeyError: 'NO_SUCH_NAME' (", "mine.py, line 2)")


def test_what_rank_0_alone_finds_in_a_run_ends_all_ranks_and_is_said_once(tmp_path: Path) -> None:
    run = [*TRAIN, "workers=2", "evaluate.every=3", "--run", "r"]
    assert job(tmp_path, *run, "steps=3").returncode == 0
    trace = (tmp_path / "r" / "trace.jsonl").read_bytes()
    (newest,) = (tmp_path / "r" / "checkpoints").iterdir()
    whole = newest.read_bytes()
    newest.write_bytes(b"rot")
    refused(job(tmp_path, *run, "steps=5", "--resume"), 1, "None of them can be used")
    assert (tmp_path / "r" / "trace.jsonl").read_bytes() == trace
    newest.write_bytes(whole)
    (tmp_path / "r" / "trace.jsonl").write_bytes(b"rot\n")
    refused(job(tmp_path, *run, "steps=5", "--resume"), 1, "a line of it is damaged")


def test_a_nan_on_one_rank_is_skipped_on_all_and_ends_the_run_after_k_in_a_row(tmp_path: Path) -> None:
    (tmp_path / "nan_task.py").write_text(NAN_TASK)
    done = job(tmp_path, *TRAIN, "task=nan_task:Nan", "skip_nonfinite.stop_after=3", "--run", "r")
    refused(done, 1, "3 steps in a row had a gradient that is not finite")
    steps = [json.loads(line) for line in (tmp_path / "r" / "trace.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in steps if line["kind"] == "step"] == [True] * 3


def test_ranks_with_different_configs_stop_before_step_1(tmp_path: Path) -> None:
    script = 'exec "$@" local_batch=$((16 + 16 * OMPI_COMM_WORLD_RANK)) --run r'
    done = job(tmp_path, "sh", "-c", script, "sh", *TRAIN)
    refused(done, 1, "local_batch is 32 on rank 1, and 16 elsewhere")
    assert not (tmp_path / "r").exists()


def test_ranks_with_different_code_stop_before_step_1(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(Path(hvd_adam.__file__).parent, other / "hvd_adam", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "hvd_adam" / "errors.py").open("a") as file:
        file.write("# another version\n")
    script = f'[ "$OMPI_COMM_WORLD_RANK" = 0 ] || export PYTHONPATH={other}; exec "$@" --run r'
    refused(job(tmp_path, "sh", "-c", script, "sh", *TRAIN), 1, "the code of hvd_adam is")
    assert not (tmp_path / "r").exists()


def test_ctrl_c_ends_all_ranks_and_leaves_a_whole_trace(tmp_path: Path) -> None:
    command = [str(TREE / "launchers" / "mpirun"), "-n", "2", "--", *TRAIN, "steps=100000", "--run", "r"]
    trace = tmp_path / "r" / "trace.jsonl"
    mine = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    try:
        until(lambda: trace.exists() and trace.read_text().count("\n") > 5, seconds=120)
        ranks = [int(word) for word in Path(f"/proc/{mine.pid}/task/{mine.pid}/children").read_text().split()]
        mine.send_signal(signal.SIGINT)
        _, complained = mine.communicate(timeout=30)
    finally:
        mine.kill()
    assert mine.returncode != 0
    assert len(ranks) == 2
    until(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks), seconds=10)
    assert "Traceback" not in complained
    text = trace.read_text()
    assert text.endswith("\n") and [json.loads(line) for line in text.splitlines()][-1]["kind"] == "step"
