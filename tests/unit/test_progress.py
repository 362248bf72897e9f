"""The moving line: only where a terminal can show it, and the plain lines stay what they are."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from hvd_adam.training.progress import lines, terminal_width
from hvd_adam.training.result import Result
from hvd_adam.training.summary import summarise

TREE = Path(__file__).resolve().parents[2]
RANK = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}


class Terminal(io.StringIO):
    """A stream that says it is a terminal; asking for its size fails as on one without any."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "stream", "width"),
    [
        ({"TERM": "xterm"}, io.StringIO(), None),
        ({"TERM": "xterm", **RANK}, Terminal(), None),  # mpirun's own terminal may end in a file
        ({"TERM": "xterm", "HVD_ADAM_TERMINAL": "93", **RANK}, Terminal(), 93),
        ({"TERM": "xterm", "HVD_ADAM_TERMINAL": "93", **RANK}, io.StringIO(), 93),  # a pipe that a launcher shows
        ({"TERM": "xterm", "HVD_ADAM_TERMINAL": "0", **RANK}, Terminal(), None),
        ({"TERM": "dumb", "HVD_ADAM_TERMINAL": "93"}, Terminal(), None),
        ({}, Terminal(), None),
    ],
)
def test_a_line_moves_only_where_somebody_sees_it(environ: dict[str, str], stream: io.StringIO, width: int) -> None:
    assert terminal_width(environ, stream) == width


def test_without_a_terminal_there_is_nothing_but_the_plain_lines() -> None:
    said: list[str] = []
    with lines(said.append) as shown:
        shown.say("one")
        assert shown.follow is None
    assert said == ["one"]


def test_on_a_terminal_the_line_moves_and_is_gone_at_the_end_and_the_lines_are_the_plain_ones(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("task: {name: digits, model: softmax}\nsteps: 40\nevaluate: {every: 20}\n")
    command = [sys.executable, "-m", "hvd_adam", "train", str(config), "--run"]
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(TREE), "OMP_NUM_THREADS": "1"}
    environment.pop("HVD_ADAM_TERMINAL", None)
    plain = subprocess.run([*command, str(tmp_path / "a")], env=environment, capture_output=True, text=True, check=True)
    ours, theirs = pty.openpty()
    job = subprocess.Popen([*command, str(tmp_path / "b")], env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # its last writer has closed it
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert job.wait(timeout=60) == 0
    text = shown.decode()
    assert "step 1/40" in text and "samples/s" in text
    assert "\x1b[" not in plain.stdout and "samples/s" not in plain.stdout
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is back
    for line in plain.stdout.splitlines():
        if line.startswith(("digits:", "adam:", "step ", "accuracy")):
            assert line in text


@pytest.mark.parametrize(
    ("test", "step", "said"),
    [
        (None, 1, "accuracy 50.00 % on the test data after 1 step\n"),
        (None, 2000, "accuracy 50.00 % on the test data after 2,000 steps\n"),
        (20, 1, "accuracy 50.00 % on the first 20 test samples after 1 step\n"),
    ],
)
def test_the_end_of_a_run_says_how_much_of_the_test_data_was_measured(test: int | None, step: int, said: str) -> None:
    result = Result(Path("runs/a"), step, samples=1, measures={"accuracy": 0.5}, target="accuracy", skipped=1)
    text = summarise(result, test)
    assert text.startswith(said) and "\n1 worker on 1 rank, 1 sample (single run)\n1 step skipped: " in text


def test_a_run_that_measured_some_test_samples_says_so_at_its_end(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("task: {name: digits, model: softmax}\nsteps: 1\nevaluate: {test: 20}\n")
    command = [sys.executable, "-m", "hvd_adam", "train", str(config), "--run", str(tmp_path / "a")]
    environment = {**os.environ, "PYTHONPATH": str(TREE), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert " % on the first 20 test samples after 1 step\n" in found.stdout
