"""A run that is asked to stop at any moment, resumed, is the undisturbed run: evaluations are stopping points too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hvd_adam.config import from_plain
from hvd_adam.training.loop import Result, train

PLAIN: dict[str, Any] = {
    "task": {"name": "digits", "model": "softmax"},
    "workers": 2,
    "local_batch": 16,
    "steps": 6,
    "determinism": "exact",
    "engine": "solo",
    # 4 chunks of test data and 3 of training data, for two workers: two rounds each
    "evaluate": {"at": [0, 2, 5], "chunk": 100, "train": 250},
}
CLOCKS = ("seconds", "reached")


class StopAt:
    """A request that comes between one look at the flag and the next: a look is a moment that can be told apart."""

    def __init__(self, look: int | None) -> None:
        self.look, self.looks = look, 0

    @property
    def flag(self) -> bool:
        self.looks += 1
        return self.look is not None and self.looks >= self.look


def launch(path: Path, look: int | None = None, **changes: Any) -> tuple[Result, int]:
    stop = StopAt(look)
    result = train(from_plain({**PLAIN, **changes}), str(path), resume=path.exists(), stop=stop)  # type: ignore[arg-type]
    assert result is not None
    return result, stop.looks


def told(path: Path) -> tuple[list[Any], dict[str, Any], dict[str, torch.Tensor]]:
    """Trace, result and weights, without what a clock or a launch says."""
    lines = [json.loads(line) for line in (path / "trace.jsonl").read_text().splitlines()]
    trace = [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines if line["kind"] != "start"]
    result = {k: v for k, v in json.loads((path / "result.json").read_text()).items() if k not in CLOCKS}
    return trace, result, torch.load(path / "model.pt", weights_only=True)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    return path, launch(path)[1]


def test_there_is_a_moment_for_each_step_and_each_round_of_an_evaluation(truth: tuple[Path, int]) -> None:
    assert truth[1] == 6 + 4 * (2 + 2)


@pytest.mark.parametrize("look", range(1, 23))
def test_a_stop_at_any_moment_changes_nothing(truth: tuple[Path, int], tmp_path: Path, look: int) -> None:
    path = tmp_path / "run"
    first, looks = launch(path, look)
    assert first.status == "stopped" and looks == look  # at once: no further step, no further round
    second, _ = launch(path)
    assert second.status == "done"
    trace, result, weights = told(path)
    true_trace, true_result, true_weights = told(truth[0])
    assert (trace, result) == (true_trace, true_result)
    assert all(torch.equal(weights[name], true_weights[name]) for name in true_weights)


def test_a_stop_that_the_clock_asks_for_leaves_time_to_evaluate(tmp_path: Path) -> None:
    result, _ = launch(tmp_path / "run", steps=50, evaluate={"every": 1}, max_seconds=1e-6)
    assert (result.status, result.ended_by, [step for step, _ in result.evaluations]) == ("done", "time", [1, 2])
