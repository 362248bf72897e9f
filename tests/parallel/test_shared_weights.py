"""Weights that the ranks of a machine hold once, where they divide the step: `share_weights`."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import torch
from test_divided import assert_equal, sharing, small, steps, weights, wrapped
from torch import nn

from hvd_adam import DistributedOptimizer, GenericAdam
from hvd_adam.comm import World
from hvd_adam.config import from_plain
from hvd_adam.errors import RunError
from hvd_adam.optim import divided
from hvd_adam.optim.agreement import refuse_drift
from hvd_adam.training.preparation import average, check_task, prepare

__all__ = ["small"]  # a fixture that each test takes


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks bring their weights to the common memory one after the other."""
    take_in = divided.DividedStep.take_in

    def slowly(step: divided.DividedStep) -> None:
        time.sleep(0.05 * sharing().rank)
        take_in(step)

    monkeypatch.setattr(divided.DividedStep, "take_in", slowly)


@pytest.mark.usefixtures("late")
def test_shared_weights_are_rank_0s_whatever_the_others_began_with() -> None:
    world, parameters = sharing(), weights()
    with torch.no_grad():
        torch._foreach_add_(parameters, float(world.rank))
    wrapped(parameters, share_weights=True)
    assert all(torch.equal(one, other) for one, other in zip(parameters, weights(), strict=True))


@pytest.mark.usefixtures("late")
def test_a_rank_that_comes_late_does_not_undo_what_another_has_loaded() -> None:
    world, parameters = sharing(), weights()
    wrapped(parameters, share_weights=True)
    if world.rank == 0:
        with torch.no_grad():
            parameters[5].fill_(3.0)
    world.barrier()
    assert parameters[5].eq(3.0).all()
    world.barrier()


def test_no_rank_writes_to_shared_weights_before_all_have_gone_back_through_them() -> None:
    """The last rank takes its time between forward and backward, whose gradients depend on the weights."""
    world, parameters, others = sharing(), weights(), weights()
    made = [wrapped(parameters, share_weights=True, lr=0.1), wrapped(others, whole=True, lr=0.1)]
    for _ in range(3):
        for one, its in zip(made, (parameters, others), strict=True):
            one.zero_grad()
            loss = torch.stack([(parameter**3).sum() for parameter in its]).sum()
            time.sleep(0.05 if world.rank == world.size - 1 else 0)
            loss.backward()
            one.step()
        assert_equal(*made)


def test_two_optimizers_of_one_model_share_its_weights() -> None:
    """The second one's wrapping gives all ranks rank 0's weights once more, those of the first among them."""
    model = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 10))
    both = [
        DistributedOptimizer(GenericAdam(part.parameters()), sharing(), model=model, share_weights=True)
        for part in model
    ]
    for _ in range(2):
        model(torch.ones(1, 30)).sum().backward()
        for optimizer in both:
            assert not optimizer.step().skipped
            optimizer.zero_grad()
    refuse_drift(sharing(), model.parameters(), "after two steps")


def share_them(world: World, parameter: nn.Parameter) -> bool:
    """Whether the ranks have it in one memory: what rank 0 writes there, all see."""
    weight = parameter.data.view(-1)[:1]
    world.barrier()
    if world.rank == 0:
        weight.fill_(77.0)
    world.barrier()
    seen = weight.item() == 77.0
    return all(json.loads(text) for text in world.allgather_bytes(json.dumps(seen).encode()))


@pytest.mark.parametrize(
    ("options", "shared"), [({}, True), ({"share_weights": False}, False), ({"check_every": 9}, False)], ids=str
)
def test_train_shares_weights_unless_it_is_told_or_has_ranks_to_compare(options: dict[str, Any], shared: bool) -> None:
    world = sharing()
    plain = {"task": {"name": "digits", "model": "mlp"}, "workers": world.size, "local_batch": 8, "steps": 3}
    config = from_plain({**plain, **options})
    parts = prepare(config, check_task(config))
    average(config, world, parts)
    assert share_them(world, next(parts.model.parameters())) is (shared or world.size == 1)


def test_ranks_that_would_hold_their_weights_in_two_ways_are_named() -> None:
    world = sharing()
    if world.size == 1:
        pytest.skip("one rank agrees with itself")
    with pytest.raises(RunError, match=r"share_weights is .* on rank"):
        wrapped(weights(), share_weights=world.rank == 0)


def test_shared_weights_that_something_else_writes_to_are_refused() -> None:
    parameters = weights()
    if sharing().size == 1:
        pytest.skip("one rank shares weights with nobody")
    optimizer = wrapped(parameters, share_weights=True)
    steps(optimizer, parameters, range(1, 3))
    with torch.no_grad():
        parameters[5].mul_(0.5)
    with pytest.raises(RunError, match=r"weights of shape \(40, 50\) that were written to beside the optimizer's step"):
        steps(optimizer, parameters, range(3, 4))
