"""A run that is asked to stop at any moment, resumed, is the undisturbed run: evaluations are stopping points too."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hvd_adam.comm.solo import SoloWorld
from hvd_adam.config import from_plain
from hvd_adam.optim.averaging import DistributedOptimizer
from hvd_adam.tasks.digits import Digits
from hvd_adam.training.evaluation import evaluate
from hvd_adam.training.loop import train
from hvd_adam.training.result import Result

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


class Frozen(Digits):
    """Batch norms in eval mode, as in a backbone that was trained before: their statistics stay what they are."""

    def model(self) -> nn.Module:
        network = super().model()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return network


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


def test_no_evaluation_and_no_resume_wakes_up_what_a_task_keeps_in_eval_mode(tmp_path: Path) -> None:
    frozen = {"task": {"name": f"{__name__}:Frozen", "batch_norm": True}}
    launch(tmp_path / "one evaluation", **frozen, evaluate={"chunk": 100})
    launch(tmp_path / "some", **frozen)
    assert launch(tmp_path / "resumed", look=8, **frozen)[0].status == "stopped"
    launch(tmp_path / "resumed", **frozen)
    weights, *others = (told(tmp_path / name)[2] for name in ("one evaluation", "some", "resumed"))
    assert all(torch.equal(other[name], weights[name]) for other in others for name in weights)
    fresh = nn.BatchNorm2d(1).state_dict()  # a batch norm that has seen nothing
    seen = [name for name in weights if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert seen and all((weights[name] == fresh[name.rpartition(".")[2]]).all() for name in seen)


@pytest.mark.parametrize("fails", [False, True])
def test_an_evaluation_leaves_each_module_in_the_mode_that_it_was_in(fails: bool, tmp_path: Path) -> None:
    class Task(Digits):
        def measures(self, model: nn.Module, batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
            assert not any(module.training for module in model.modules())
            if fails:
                raise KeyError("measures")
            return super().measures(model, batch)

    class Backbone(nn.Sequential):
        def train(self, mode: bool = True) -> Backbone:
            """Stays in eval mode itself, whatever it is told."""
            super().train(mode)
            self.training = False
            return self

    task = Task()
    task.prepare(tmp_path)
    asleep, awake = nn.Sequential(nn.Dropout()).eval().append(nn.Dropout()), nn.Sequential(nn.Dropout().eval())
    model = nn.Sequential(nn.Flatten(), asleep, awake, Backbone(nn.Dropout()).train(), nn.Linear(64, 10))
    model.training = False
    modes = {module: module.training for module in model.modules()}
    assert list(modes.values()) == [False, True, False, False, True, True, False, False, True, True]
    optimizer = DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), SoloWorld())
    with pytest.raises(KeyError) if fails else nullcontext():
        evaluate(task, model, optimizer)
    assert {module: module.training for module in model.modules()} == modes
