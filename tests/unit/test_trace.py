"""The trace: valid JSON whatever the numbers, whole lines whatever the end, no step twice after a resume."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from hvd_adam.config import from_plain
from hvd_adam.errors import RunError
from hvd_adam.optim.averaging import DistributedOptimizer
from hvd_adam.optim.outcome import Outcome
from hvd_adam.training.loop import train
from hvd_adam.training.trace import Trace, cut_back, read


def trace_of(path: Path, steps: int) -> None:
    trace = Trace(path)
    for step in range(1, steps + 1):
        trace.write("step", step=step, loss=1.0 / step)
    trace.write("end", step=steps, status="stopped")
    trace.close()


def test_numbers_that_are_not_finite_are_text_in_valid_json(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t")
    trace.write("step", step=1, loss=float("nan"), deep={"a": float("inf"), "b": [float("-inf"), 1.0]})
    line = (tmp_path / "t").read_text().splitlines()[-1]
    found = json.loads(line, parse_constant=lambda name: 1 / 0)  # NaN and Infinity are not JSON
    assert found == {"kind": "step", "step": 1, "loss": "nan", "deep": {"a": "inf", "b": ["-inf", 1.0]}}


def test_each_line_is_on_disk_when_write_returns(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t")
    for step in range(3):
        trace.write("step", step=step)
        assert [line.get("step") for line in read(tmp_path / "t")] == [None, *range(step + 1)]


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    trace_of(tmp_path / "t", 3)
    whole = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(whole[:-5])
    assert [line["kind"] for line in read(tmp_path / "t")] == ["start", "step", "step", "step"]


def test_cutting_back_keeps_what_the_checkpoint_knows(tmp_path: Path) -> None:
    trace_of(tmp_path / "t", 10)
    assert cut_back(tmp_path / "t", 4) == 5
    assert [line.get("step") for line in read(tmp_path / "t")] == [None, 1, 2, 3, 4]


def test_the_first_line_says_the_schema_and_is_written_once(tmp_path: Path) -> None:
    Trace(tmp_path / "t", target="loss").close()
    again = Trace(tmp_path / "t", target="accuracy")
    again.write("step", step=1)
    assert read(tmp_path / "t") == [{"kind": "start", "schema": 1, "target": "loss"}, {"kind": "step", "step": 1}]


@pytest.mark.parametrize(
    "damage", ["rot", '{"kind": "step", "st', "3", "[]", '{"step": 2}', '{"kind": "step", "step": []}']
)
def test_a_damaged_line_is_said_and_the_trace_stays_as_it_is(tmp_path: Path, damage: str) -> None:
    trace_of(tmp_path / "t", 3)
    first, _, *rest = (tmp_path / "t").read_text().splitlines()
    (tmp_path / "t").write_text("\n".join([first, damage, *rest]) + "\n")
    before = (tmp_path / "t").read_bytes()
    with pytest.raises(RunError, match="a line of it is damaged"):
        cut_back(tmp_path / "t", 2)
    assert (tmp_path / "t").read_bytes() == before


def test_without_a_checkpoint_the_trace_starts_afresh(tmp_path: Path) -> None:
    trace_of(tmp_path / "t", 10)
    assert cut_back(tmp_path / "t", 0) == 0
    assert read(tmp_path / "t") == []
    assert cut_back(tmp_path / "none", 0) == 0


def test_a_line_that_is_being_written_is_none_that_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint's thread makes sure of the trace while training writes the next line."""
    trace, writes, began, go_on = Trace(tmp_path / "t"), os.write, threading.Event(), threading.Event()

    def slow(file: int, text: bytes) -> int:
        began.set()
        assert go_on.wait(10)
        return writes(file, text)

    monkeypatch.setattr("os.write", slow)
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(trace.write, "step", step=1)
        assert began.wait(10)
        made_sure = pool.submit(trace.sync)
        time.sleep(0.2)
        go_on.set()
        writing.result(10)
        made_sure.result(10)
    assert [line["kind"] for line in read(tmp_path / "t")] == ["start", "step"]


def test_a_trace_that_is_not_written_costs_nothing() -> None:
    trace = Trace(None)
    trace.write("step", step=1)
    trace.close()


@pytest.mark.parametrize("kind", ["step", "end"])
def test_a_run_directory_that_is_removed_is_said_at_the_next_line(tmp_path: Path, kind: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    trace = Trace(run / "t")
    trace.write("step", step=1)
    shutil.rmtree(run)
    with pytest.raises(RunError, match=f"run directory {run} was removed while it was trained in") as gone:
        trace.write(kind, step=2)
    assert gone.value.exit_code == 1
    trace.close()


def test_where_an_open_file_keeps_a_name_of_its_own_it_is_looked_for_now_and_then(tmp_path: Path) -> None:
    """NFS: the file lives on under another name."""
    trace = Trace(tmp_path / "t")
    (tmp_path / "t").rename(tmp_path / ".nfs01")
    trace.write("step", step=1)
    with pytest.raises(RunError, match="was removed while"):
        trace.write("eval", step=1)


def test_what_was_waited_for_inside_of_backward_is_no_part_of_backward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = DistributedOptimizer.step

    def waited(self: DistributedOptimizer, stop: bool = False) -> Outcome:
        outcome = step(self, stop)
        return replace(outcome, wait_seconds=outcome.wait_seconds + 1000, wait_in_backward=1000.0)

    monkeypatch.setattr(DistributedOptimizer, "step", waited)
    config = from_plain({"task": "digits", "algorithm": {"name": "adam", "lr": 0.01}, "steps": 1})
    train(config, str(tmp_path / "r"), resume=False)
    lines = [json.loads(line) for line in (tmp_path / "r" / "trace.jsonl").read_text().splitlines()]
    seconds = next(line["seconds"] for line in lines if line["kind"] == "step")
    assert seconds["wait"] >= 1000 and seconds["backward"] + 1000 > 0 > seconds["backward"]
