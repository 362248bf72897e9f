"""The trace: valid JSON whatever the numbers, whole lines whatever the end, no step twice after a resume."""

from __future__ import annotations

import json
from pathlib import Path

from hvd_adam.training.trace import Trace, cut_back, read


def trace_of(path: Path, steps: int) -> None:
    trace = Trace(path)
    trace.write("start", schema=1)
    for step in range(1, steps + 1):
        trace.write("step", step=step, loss=1.0 / step)
    trace.write("end", step=steps, status="stopped")
    trace.close()


def test_numbers_that_are_not_finite_are_text_in_valid_json(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t")
    trace.write("step", step=1, loss=float("nan"), deep={"a": float("inf"), "b": [float("-inf"), 1.0]})
    line = (tmp_path / "t").read_text()
    found = json.loads(line, parse_constant=lambda name: 1 / 0)  # NaN and Infinity are not JSON
    assert found == {"kind": "step", "step": 1, "loss": "nan", "deep": {"a": "inf", "b": ["-inf", 1.0]}}


def test_each_line_is_on_disk_when_write_returns(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t")
    for step in range(3):
        trace.write("step", step=step)
        assert len(read(tmp_path / "t")) == step + 1


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    trace_of(tmp_path / "t", 3)
    whole = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(whole[:-5])
    assert [line["kind"] for line in read(tmp_path / "t")] == ["start", "step", "step", "step"]


def test_cutting_back_keeps_what_the_checkpoint_knows(tmp_path: Path) -> None:
    trace_of(tmp_path / "t", 10)
    assert cut_back(tmp_path / "t", 4) == 5
    assert [line.get("step") for line in read(tmp_path / "t")] == [None, 1, 2, 3, 4]


def test_without_a_checkpoint_the_trace_starts_afresh(tmp_path: Path) -> None:
    trace_of(tmp_path / "t", 10)
    assert cut_back(tmp_path / "t", 0) == 0
    assert read(tmp_path / "t") == []
    assert cut_back(tmp_path / "none", 0) == 0


def test_a_trace_that_is_not_written_costs_nothing() -> None:
    trace = Trace(None)
    trace.write("step", step=1)
    trace.close()
