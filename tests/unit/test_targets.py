"""First passage: the first evaluation that meets a target, or the first of m in a row; and how it ends a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hvd_adam.config import Target, from_plain
from hvd_adam.errors import ConfigError
from hvd_adam.tasks.registry import measures_of
from hvd_adam.training.evaluation import running_mean
from hvd_adam.training.loop import train

LOSSES = [(1, 2.0), (2, 0.9), (4, 1.1), (8, 0.8), (16, 0.7), (32, math.nan), (64, 0.5)]


@pytest.mark.parametrize(
    ("target", "passage"),
    [
        ({"at_most": 2.0}, (0, 1)),  # at the first evaluation: some time after step 0
        ({"at_most": 1.0}, (1, 2)),
        ({"at_most": 1.0, "in_a_row": 2}, (4, 8)),  # 0.9 alone does not count; the first of the two does
        ({"at_most": 0.8, "in_a_row": 3}, None),  # nan breaks a row
        ({"at_most": 0.4}, None),
        ({"at_least": 1.1}, (0, 1)),
    ],
)
def test_first_passage(target: dict[str, Any], passage: tuple[int, int] | None) -> None:
    evaluations = [(step, {"loss": loss}) for step, loss in LOSSES]
    assert Target(measure="loss", **target).first_passage(evaluations) == passage


def test_a_target_met_at_step_0_is_passed_there() -> None:
    assert Target(measure="loss", at_most=3.0).first_passage([(0, {"loss": 2.0})]) == (0, 0)


@pytest.mark.parametrize("bounds", [{}, {"at_most": 1.0, "at_least": 0.0}])
def test_a_target_has_one_bound(bounds: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="at_most or at_least"):
        from_plain({"until": [{"measure": "loss", **bounds}]})


def test_the_running_mean_is_over_the_points_that_steps_start_from() -> None:
    assert running_mean([(t, 10.0 - t) for t in (0, 1, 3, 4, 8)]) == pytest.approx(sum(range(3, 11)) / 8)
    norms = [math.exp(-t / 3) + 0.1 * math.sin(t) for t in range(41)]
    assert running_mean(list(enumerate(norms))) == pytest.approx(sum(norms[:40]) / 40, rel=1e-12)
    assert running_mean([(2, 5.0), (4, 5.0)]) == 5.0
    assert running_mean([(0, 7.0)]) == 7.0


BASE: dict[str, Any] = {
    "task": {"name": "digits", "model": "softmax"},
    "workers": 2,
    "local_batch": 16,
    "steps": 400,
    "algorithm": {"name": "adam", "lr": 0.01},
    "evaluate": {"geometric": 1.2, "train": 100},
}


def test_a_run_ends_where_its_last_target_is_reached(tmp_path: Path) -> None:
    until = [{"measure": "accuracy", "at_least": 0.85}, {"measure": "train_loss", "at_most": 0.4}]
    result = train(from_plain({**BASE, "until": until}), str(tmp_path / "r"), resume=False)
    assert result is not None and result.ended_by == "target" and 1 < result.step < 400
    accuracies = [(step, found["accuracy"] >= 0.85, found["train_loss"] <= 0.4) for step, found in result.evaluations]
    assert accuracies[-1][1:] == (True, True)
    firsts = {kind: next(step for step, *met in accuracies if met[i]) for i, kind in enumerate(("acc", "loss"))}
    assert max(firsts.values()) == result.step
    written = json.loads((tmp_path / "r" / "result.json").read_text())
    assert written["reached"]["accuracy >= 0.85"][1] == firsts["acc"]
    assert written["reached"]["train_loss <= 0.4"][1] == firsts["loss"]
    again = train(from_plain({**BASE, "until": until}), str(tmp_path / "r"), resume=True)
    assert again is not None and again.status == "done before"


def test_a_target_that_is_not_reached_leaves_the_budget_to_end_the_run(tmp_path: Path) -> None:
    plain = {**BASE, "steps": 10, "until": [{"measure": "accuracy", "at_least": 1.0}]}
    result = train(from_plain(plain), str(tmp_path / "r"), resume=False)
    assert result is not None and (result.ended_by, result.step) == ("steps", 10)


def test_seconds_end_a_run_too(tmp_path: Path) -> None:
    plain = {**BASE, "steps": 10**6, "max_seconds": 0.05, "evaluate": {}}
    result = train(from_plain(plain), str(tmp_path / "r"), resume=False)
    assert result is not None and (result.status, result.ended_by) == ("done", "time") and result.step < 10**6
    again = train(from_plain(plain), str(tmp_path / "r"), resume=True)
    assert again is not None and (again.status, again.step) == ("done before", result.step)
    longer = train(from_plain({**plain, "max_seconds": 0.2}), str(tmp_path / "r"), resume=True)
    assert longer is not None and (longer.status, longer.ended_by) == ("done", "time") and longer.step > result.step


def test_a_measure_that_the_task_has_not_is_refused(tmp_path: Path) -> None:
    plain = {**BASE, "until": [{"measure": "acuracy", "at_least": 1.0}]}
    with pytest.raises(ConfigError, match="no such measure of digits"):
        train(from_plain(plain), str(tmp_path / "r"), resume=False)
    assert not (tmp_path / "r").exists()  # before the first step


def test_train_loss_is_asked_for_where_it_is_measured() -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.train"):
        from_plain({"until": [{"measure": "train_loss", "at_most": 1.0}]})


@pytest.mark.parametrize("name", ["digits", "toy", "pseudo-huber", "quadratic", "counterexample"])
def test_the_measures_that_are_known_beforehand_are_those_of_an_evaluation(name: str, tmp_path: Path) -> None:
    plain = {"task": name, "steps": 2, "evaluate": {"train": 10}, "sampling": "replacement"}
    if name == "counterexample":
        plain["evaluate"] = {}
    result = train(from_plain(plain), str(tmp_path / "r"), resume=False)
    assert result is not None
    known = measures_of(name)
    assert not known or set(known) == set(result.evaluations[-1][1])
    assert bool(known) == (name != "counterexample")
