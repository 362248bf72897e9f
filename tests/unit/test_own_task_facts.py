"""What a task of one's own says of itself is looked at before step 1, and what it measures at the first evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hvd_adam.config import from_plain
from hvd_adam.errors import ConfigError
from hvd_adam.study.config import from_plain as study_from_plain
from hvd_adam.study.plan import plan
from hvd_adam.tasks import get
from hvd_adam.training.loop import train
from hvd_adam.training.preparation import prepare
from tests.unit.test_test_share import Counting


class Mine(Counting):
    """Learns nothing; says what the test has it say."""

    facts: dict[str, Any] = {}
    measured: tuple[str, ...] = ("loss",)

    def prepare(self, root: object) -> None:
        vars(self).update({"train_size": 64, "test_size": 8, "target": "loss", **self.facts})

    def measures(self, model: torch.nn.Module, batch: tuple[torch.Tensor]) -> dict[str, torch.Tensor]:
        return dict.fromkeys(self.measured, batch[0].sum())


def run(path: Path, **changes: Any) -> None:
    plain = {"task": {"name": f"{__name__}:Mine"}, "local_batch": 4, "steps": 2, "engine": "solo", **changes}
    train(from_plain(plain), str(path), resume=False)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"train_size": None}, "train_size is None"),
        ({"test_size": np.int64(8)}, r"test_size is (np\.int64\()?8"),
        ({"train_size": -1}, "train_size is -1"),
        ({"train_size": True}, "train_size is True"),
        ({"target": None}, "target is None"),
        ({"target": 3}, "target is 3"),
    ],
)
def test_a_fact_that_is_missing_or_of_another_kind_is_named(
    facts: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mine, "facts", facts)
    with pytest.raises(ConfigError, match=says):
        run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["kind", "step", "samples", "seconds"])
def test_a_measure_of_a_name_that_the_trace_needs_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mine, "measured", ("loss", name))
    with pytest.raises(ConfigError, match=f"called {name}"):
        run(tmp_path / "run")


def test_the_training_loss_needs_a_measure_called_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mine, "measured", ("height",))
    with pytest.raises(ConfigError, match="the task's measures are height"):
        run(tmp_path / "run", evaluate={"train": 8})
    run(tmp_path / "without")


@pytest.mark.parametrize("task", [f"{__name__}:Mine", "folder"])
def test_what_nobody_can_copy_is_not_staged_without_a_word(task: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody knows which files these are"):
        run(tmp_path / "run", task={"name": task}, stage=str(tmp_path))


class Backbone(Mine):
    """Of its 2 + 2 weights and biases the first layer's are frozen."""

    def model(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(1, 1).requires_grad_(False), torch.nn.Linear(1, 1))


def test_frozen_weights_are_no_variables_of_the_theorem(tmp_path: Path) -> None:
    name = f"{__name__}:Backbone"
    plain = {
        "task": {"name": name}, "workers": 2, "local_batch": 4, "data": str(tmp_path),
        "optimizer": {"lr": 0.01, "betas": [0.9, "1 - 1/T"], "v0": "1/(s d)"},
    }  # fmt: skip
    assert prepare(from_plain(plain), get(name)).adam.param_groups[0]["v0"] == 1 / (8 * 2)


def test_a_misspelled_task_is_found_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="Did you mean digits"):
        from_plain({"task": "digitz"})
    study = study_from_plain(
        {"name": "s", "base": {"task": "digitz"}, "grid": {"workers": [1, 2]}, "seeds": 1,
         "targets": [{"measure": "loss", "at_most": 0.1}], "budget": {"steps": 9}}
    )  # fmt: skip
    with pytest.raises(ConfigError, match="cell workers-1: task: digitz"):
        plan(study)
