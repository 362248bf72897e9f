"""Gradients that a user sets, replaces or takes away: flat memory is never assumed.

Every rank plays its share of two or more workers; what is set by hand differs by rank, and the mean is worked out here.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hvd_adam import DistributedOptimizer
from hvd_adam.comm import World
from hvd_adam.errors import RunError


@pytest.fixture(params=["default", "exact"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


def pair(world: World, mode: str, **options: Any) -> tuple[list[nn.Parameter], DistributedOptimizer]:
    """Two parameters of ones in one bucket, under plain descent with step 1."""
    weights = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))]
    return weights, DistributedOptimizer(torch.optim.SGD(weights, lr=1.0), world, determinism=mode, **options)


def mean_over_ranks(world: World) -> float:
    return sum(range(1, world.size + 1)) / world.size


def test_a_gradient_set_without_backward_is_averaged(world: World, mode: str) -> None:
    (one, other), optimizer = pair(world, mode)
    one.grad = torch.full((3,), float(world.rank + 1))
    optimizer.step()
    assert torch.allclose(one, torch.full((3,), 1.0 - mean_over_ranks(world)))
    assert torch.equal(other, torch.ones(2)) and other.grad is None


def test_a_gradient_replaced_after_backward_is_the_one_that_counts(world: World, mode: str) -> None:
    (one, other), optimizer = pair(world, mode)
    (one.sum() + other.sum()).backward()
    assert one.grad is not None
    one.grad = one.grad * (10.0 * (world.rank + 1))
    optimizer.step()
    assert torch.allclose(one, torch.full((3,), 1.0 - 10.0 * mean_over_ranks(world)))
    assert torch.equal(other, torch.zeros(2))


def test_a_gradient_changed_in_place_after_backward_is_the_one_that_counts(world: World, mode: str) -> None:
    (one, other), optimizer = pair(world, mode)
    (one.sum() + other.sum()).backward()
    nn.utils.clip_grad_value_([one], 0.25)
    optimizer.step()
    assert torch.equal(one, torch.full((3,), 0.75)) and torch.equal(other, torch.zeros(2))


def test_a_gradient_taken_away_everywhere_leaves_its_parameter_alone(world: World, mode: str) -> None:
    (one, other), optimizer = pair(world, mode)
    (one.sum() + other.sum()).backward()
    one.grad = None
    optimizer.step()
    assert torch.equal(one, torch.ones(3)) and one.grad is None
    assert torch.equal(other, torch.zeros(2))


def test_a_gradient_taken_away_on_one_rank_counts_as_zero_there(world: World, mode: str) -> None:
    (one, other), optimizer = pair(world, mode)
    (one.sum() + other.sum()).backward()
    if world.rank == world.size - 1:
        one.grad = None
    optimizer.step()
    assert torch.allclose(one, torch.full((3,), 1.0 / world.size))
    assert torch.equal(other, torch.zeros(2))


@pytest.mark.parametrize("clear", ["the model's zero_grad", "the wrapped optimizer's", "by hand"])
def test_gradients_may_be_cleared_in_any_way_that_leaves_none(world: World, mode: str, clear: str) -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=1.0), world, model=model, determinism=mode)
    for step in range(1, 4):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        assert torch.equal(model.weight, torch.full((1, 2), -float(step)))
        if clear == "by hand":
            model.weight.grad = None
        elif clear == "the model's zero_grad":
            model.zero_grad()
        else:
            optimizer.optimizer.zero_grad()


def test_gradients_zeroed_in_place_are_refused_with_the_call_to_make(world: World) -> None:
    """They cannot be told from those of the step before."""
    (one, other), optimizer = pair(world, "default")
    (one.sum() + other.sum()).backward()
    optimizer.step()
    optimizer.optimizer.zero_grad(set_to_none=False)
    with pytest.raises(RunError, match=r"Call optimizer\.zero_grad"):
        (one.sum() + other.sum()).backward()


def test_a_gradient_replaced_after_its_bucket_has_left_is_refused(world: World) -> None:
    weights = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))]
    optimizer = DistributedOptimizer(torch.optim.SGD(weights, lr=1.0), world, bucket_mb=1e-6)
    assert optimizer.bucket_count == 2
    (weights[0].sum() + weights[1].sum()).backward()
    weights[1].grad = torch.zeros(2)
    with pytest.raises(RunError, match="Its bucket had left"):
        optimizer.step()
