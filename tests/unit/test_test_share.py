"""evaluate.test: the first so many test samples stand for all of them, and everything that reads the run is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hvd_adam.config import from_plain, identity
from hvd_adam.errors import ConfigError
from hvd_adam.training.loop import train
from hvd_adam.training.result import Result
from tests.made_study import BASE, make, study_of


class Counting:
    """Its measure is a test sample's own number, so that a mean tells which samples were looked at."""

    name, target = "counting", "number"

    def prepare(self, root: object) -> None:
        self.train_size, self.test_size = 64, 40

    def model(self) -> torch.nn.Module:
        return torch.nn.Linear(1, 1)

    def batch(self, indices: Any, generator: Any, train: bool) -> tuple[torch.Tensor]:
        return (torch.tensor(indices, dtype=torch.float32)[:, None],)

    def loss(self, model: torch.nn.Module, batch: tuple[torch.Tensor]) -> torch.Tensor:
        return model(batch[0] / 64).square().mean()

    def measures(self, model: torch.nn.Module, batch: tuple[torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"number": batch[0].sum(), "loss": batch[0].sum()}


def run(path: Path, **evaluate: Any) -> Result:
    plain = {
        "task": {"name": "tests.unit.test_test_share:Counting"},
        "workers": 2,
        "local_batch": 4,
        "steps": 2,
        "engine": "solo",
        "evaluate": {"chunk": 7, **evaluate},
    }
    result = train(from_plain(plain), str(path), resume=False)
    assert result is not None
    return result


def start(path: Path) -> dict[str, Any]:
    return json.loads((path / "trace.jsonl").read_text().splitlines()[0])


@pytest.mark.parametrize(("share", "mean"), [(None, 39 / 2), (40, 39 / 2), (10, 9 / 2), (1, 0.0), (7, 3.0), (8, 3.5)])
def test_the_first_samples_and_no_others_are_measured(share: int | None, mean: float, tmp_path: Path) -> None:
    assert run(tmp_path / "r", test=share).measures["number"] == mean
    facts = start(tmp_path / "r")
    assert (facts["test_measured"], facts["test_size"]) == (share or 40, 40)


def test_training_loss_is_measured_as_before(tmp_path: Path) -> None:
    whole, part = run(tmp_path / "a", train=64), run(tmp_path / "b", train=64, test=3)
    assert whole.measures["train_loss"] == part.measures["train_loss"] == 63 / 2


def test_more_samples_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        run(tmp_path / "r", test=41)
    assert "evaluate.test: 41" in str(error.value.found) and "40 test samples" in error.value.why
    with pytest.raises(ConfigError, match=r"evaluate\.test: 0"):
        from_plain({"evaluate": {"test": 0}})


def test_a_share_makes_another_run_and_no_share_leaves_the_identity_as_it_was() -> None:
    whole, part = (from_plain({"task": "digits", "evaluate": {"test": share}}) for share in (None, 100))
    assert "evaluate.test" not in identity(whole) and identity(part)["evaluate.test"] == 100
    assert whole.identity() != part.identity()


def test_a_printed_evaluation_names_its_share(tmp_path: Path, call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("task: {name: digits, model: softmax}\nsteps: 1\nengine: solo\n")
    code, said, _ = call("train", "c.yaml", "evaluate.test=100")
    assert code == 0 and "test (first 100 of 359)" in said
    code, said, _ = call("train", "c.yaml", "evaluate.test=360")
    assert code == 2


SHARED = {**BASE["base"], "evaluate": {"test": 100}}


def test_a_study_of_a_share_says_so_in_plan_and_report(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(base=SHARED, seeds=2))
    for trace in folder.glob("*/*/trace.jsonl"):
        trace.write_text(
            trace.read_text().replace('"schema": 1', '"schema": 1, "test_measured": 100, "test_size": 359')
        )
    _, said, _ = call("study", "plan", folder / "study.yaml", "--no-timing", "--folder", folder)
    assert "note: evaluate.test: test measures are those of the first 100 test samples alone" in said
    _, said, _ = call("study", "report", folder)
    assert "first 100 test samples alone" in said
    assert "Test measures: the first 100 of 359 test samples alone." in (folder / "report.html").read_text()


def test_two_studies_of_different_shares_are_not_compared(tmp_path: Path, call) -> None:
    a, b = make(tmp_path / "a", study_of(base=SHARED, seeds=2)), make(tmp_path / "b", study_of(seeds=2))
    code, _, err = call("study", "compare", a, b)
    assert code == 2 and "evaluate.test: 100" in err and "all in" in err and "not comparable" in err
