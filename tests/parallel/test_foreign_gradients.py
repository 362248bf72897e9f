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

Mode = dict[str, Any]


@pytest.fixture(params=["default", "exact", "default, in bfloat16", "exact, in bfloat16"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """Numbers here are small enough for eight bits."""
    determinism, _, short = request.param.partition(", ")
    return {"determinism": determinism, "dtype": torch.bfloat16 if short else torch.float32}


def pair(
    world: World, determinism: str = "default", dtype: torch.dtype = torch.float32, **options: Any
) -> tuple[list[nn.Parameter], DistributedOptimizer]:
    """Two parameters of ones in one bucket, under plain descent with step 1."""
    weights = [nn.Parameter(torch.ones(n, dtype=dtype)) for n in (3, 2)]
    return weights, DistributedOptimizer(torch.optim.SGD(weights, lr=1.0), world, determinism=determinism, **options)


def all_are(weight: torch.Tensor, value: float, rtol: float = 0.0) -> bool:
    return torch.allclose(weight.detach().float(), torch.full(weight.shape, float(value)), rtol=rtol, atol=0.0)


def mean_over_ranks(world: World) -> float:
    return sum(range(1, world.size + 1)) / world.size


def test_a_gradient_set_without_backward_is_averaged(world: World, mode: Mode) -> None:
    (one, other), optimizer = pair(world, **mode)
    one.grad = torch.full_like(one, float(world.rank + 1))
    optimizer.step()
    assert all_are(one, 1.0 - mean_over_ranks(world), rtol=1e-5)
    assert all_are(other, 1) and other.grad is None


def test_a_gradient_replaced_after_backward_is_the_one_that_counts(world: World, mode: Mode) -> None:
    (one, other), optimizer = pair(world, **mode)
    (one.sum() + other.sum()).backward()
    assert one.grad is not None
    one.grad = one.grad * (10.0 * (world.rank + 1))
    optimizer.step()
    assert all_are(one, 1.0 - 10.0 * mean_over_ranks(world), rtol=1e-5)
    assert all_are(other, 0)


def test_a_gradient_changed_in_place_after_backward_is_the_one_that_counts(world: World, mode: Mode) -> None:
    (one, other), optimizer = pair(world, **mode)
    (one.sum() + other.sum()).backward()
    nn.utils.clip_grad_value_([one], 0.25)
    optimizer.step()
    assert all_are(one, 0.75) and all_are(other, 0)


def test_gradients_clipped_after_backward_count_as_they_were_clipped(world: World, mode: Mode) -> None:
    (one, other), optimizer = pair(world, **mode)
    (3 * one.sum() + other.sum()).backward()
    assert nn.utils.clip_grad_norm_([other], 2.0**-0.5).item() == pytest.approx(2**0.5)
    optimizer.step()
    assert all_are(one, -2.0) and all_are(other, 0.5, rtol=1e-2)


def test_a_gradient_taken_away_everywhere_leaves_its_parameter_alone(world: World, mode: Mode) -> None:
    (one, other), optimizer = pair(world, **mode)
    (one.sum() + other.sum()).backward()
    one.grad = None
    optimizer.step()
    assert all_are(one, 1) and one.grad is None
    assert all_are(other, 0)


def test_a_gradient_taken_away_on_one_rank_counts_as_zero_there(world: World, mode: Mode) -> None:
    (one, other), optimizer = pair(world, **mode)
    (one.sum() + other.sum()).backward()
    if world.rank == world.size - 1:
        one.grad = None
    optimizer.step()
    assert all_are(one, 1.0 / world.size, rtol=1e-5)
    assert all_are(other, 0)


@pytest.mark.parametrize("clear", ["the model's zero_grad", "the wrapped optimizer's", "by hand"])
def test_gradients_may_be_cleared_in_any_way_that_leaves_none(world: World, mode: Mode, clear: str) -> None:
    model = nn.Linear(2, 1, bias=False, dtype=mode["dtype"])
    nn.init.zeros_(model.weight)
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer = DistributedOptimizer(sgd, world, model=model, determinism=mode["determinism"])
    for step in range(1, 4):
        model(torch.ones(1, 2, dtype=mode["dtype"])).sum().backward()
        optimizer.step()
        assert all_are(model.weight, -step)
        if clear == "by hand":
            model.weight.grad = None
        elif clear == "the model's zero_grad":
            model.zero_grad()
        else:
            optimizer.optimizer.zero_grad()


@pytest.mark.parametrize("zeroed", [False, True], ids=["left", "zeroed in place"])
@pytest.mark.parametrize("at_once", [False, True], ids=["backward", "no backward"])
def test_gradients_of_the_step_before_are_refused_with_the_call_to_make(
    world: World, mode: Mode, zeroed: bool, at_once: bool
) -> None:
    """Those that were zeroed in place cannot be told from them."""
    (one, other), optimizer = pair(world, **mode)
    (one.sum() + other.sum()).backward()
    optimizer.step()
    if zeroed:
        optimizer.optimizer.zero_grad(set_to_none=False)
    with pytest.raises(RunError, match=r"Call optimizer\.zero_grad"):
        optimizer.step() if at_once else (one.sum() + other.sum()).backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_replaced_after_its_bucket_has_left_is_refused(world: World, dtype: torch.dtype) -> None:
    weights, optimizer = pair(world, dtype=dtype, bucket_mb=1e-6)
    assert optimizer.bucket_count == 2
    (weights[0].sum() + weights[1].sum()).backward()
    weights[1].grad = torch.zeros_like(weights[1])
    with pytest.raises(RunError, match="Its bucket had left"):
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_changed_in_place_after_their_bucket_has_left_count_or_are_refused(
    world: World, dtype: torch.dtype
) -> None:
    """What other ranks have by then is not theirs any more; only shared memory is summed later."""
    weights, optimizer = pair(world, dtype=dtype, bucket_mb=1e-6)
    assert optimizer.bucket_count == 2
    for _ in range(2):
        (weights[0].sum() + weights[1].sum()).backward()
        if not world.takes_changes(optimizer._layout.buckets[0].flat):
            nn.utils.clip_grad_value_(weights, 0.25)
            with pytest.raises(RunError, match="changed in place after backward"):
                optimizer.step()
            return
        nn.utils.clip_grad_value_(weights, 0.25)
        optimizer.step()
        optimizer.zero_grad()
    assert all_are(weights[0], 0.5) and all_are(weights[1], 0.5)


def test_steps_that_change_nothing_after_backward_are_not_refused(world: World) -> None:
    """Of several buckets that leave during backward, whoever sums them."""
    weights = [nn.Parameter(torch.ones(3)) for _ in range(4)]
    optimizer = DistributedOptimizer(torch.optim.SGD(weights, lr=0.25), world, bucket_mb=1e-6, accumulation=2)
    for _ in range(2):
        for _ in range(2):
            torch.stack([one.sum() for one in weights]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(one, torch.full((3,), 0.5)) for one in weights)


def test_a_parameter_without_numbers_goes_along_in_a_bucket_that_leaves_early(world: World) -> None:
    empty, one, other = nn.Parameter(torch.ones(0, 2)), nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    optimizer = DistributedOptimizer(torch.optim.SGD([one, other, empty], lr=1.0), world, bucket_mb=1e-6)
    assert optimizer.bucket_count > 1
    (empty.sum() + one.sum() + other.sum()).backward()
    optimizer.step()
    assert all_are(one, 0) and all_are(other, 0)


def test_passes_that_keep_their_graph_are_added_up_once(world: World, mode: Mode) -> None:
    """Autograd then hands over the sum so far in new memory."""
    (one, other), optimizer = pair(world, **mode, accumulation=2, workers=2 * world.size)
    for worker in optimizer.workers(1):
        for factor in (1.0, 3.0):
            (factor * (worker % 2 + 1) * (one.sum() + other.sum())).backward(create_graph=True)
    optimizer.step()  # the mean of 1, 3, 2 and 6
    assert all_are(one, -2.0) and all_are(other, -2.0)


def test_a_hook_of_the_users_may_replace_the_sum_so_far(world: World) -> None:
    weight = nn.Parameter(torch.ones(3))

    def clamp(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        parameter.grad = parameter.grad.clamp(-1.5, 1.5)

    weight.register_post_accumulate_grad_hook(clamp)
    optimizer = DistributedOptimizer(torch.optim.SGD([weight], lr=1.0), world, accumulation=2)
    for _ in range(2):
        weight.sum().backward()
    optimizer.step()
    assert torch.equal(weight, torch.full((3,), 1 - 1.5 / 2))


def test_a_pass_that_was_given_up_before_the_step_does_not_count(world: World, mode: Mode) -> None:
    (one, other), optimizer = pair(world, **mode)
    (torch.nan * one.sum() + 7 * other.sum()).backward()
    optimizer.zero_grad()
    (one.sum() + other.sum()).backward()
    assert not optimizer.step().skipped
    assert all_are(one, 0) and all_are(other, 0)


def test_a_parameter_whose_only_gradient_was_given_up_has_none(world: World, mode: Mode) -> None:
    (one, other), optimizer = pair(world, **mode)
    (3 * one.sum() + other.sum()).backward()
    optimizer.zero_grad()
    (2 * one.sum()).backward()
    assert optimizer.step().grad_norm == pytest.approx(2 * 3**0.5)
    assert all_are(one, -1.0) and all_are(other, 1.0) and other.grad is None


def test_a_loss_that_goes_back_through_another_optimizers_weights_is_refused(world: World, mode: Mode) -> None:
    """Their next step would count it: as where a generator's loss goes through the discriminator."""
    (one, _), optimizer = pair(world, **mode)
    (other, _), second = pair(world, **mode)
    one.sum().backward()
    optimizer.step()
    with pytest.raises(RunError, match="the step before"):
        (one.sum() * other.sum()).backward()
    assert second.bucket_count == 1


def test_short_gradients_are_summed_in_float32(world: World) -> None:
    """In bfloat16 256 + 1 is 256."""
    (one, other), optimizer = pair(world, dtype=torch.bfloat16, accumulation=3, workers=2 * world.size)
    for _ in optimizer.workers(1):
        for factor in (256.0, 1.0, 1.0):
            (factor * (one.sum() + other.sum())).backward()
            assert one.grad is not None and one.grad.dtype == torch.float32
    optimizer.step()
    assert all_are(one, -85.0) and one.grad is not None and one.grad.dtype == torch.bfloat16


def test_a_model_that_was_converted_after_the_wrapping_is_refused(world: World) -> None:
    """Its gradients would be rounded to what it was, unsaid."""
    model = nn.Linear(3, 1)
    optimizer = DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=1.0), world)
    model.double()
    with pytest.raises(RunError, match=r"of 1 numbers, torch\.float32 on cpu, became one of 1, torch\.float64 on cpu"):
        model(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
    assert optimizer.bucket_count == 1


def test_a_step_that_was_given_up_begins_anew(world: World, mode: Mode) -> None:
    """Before backward, after it, and between two workers."""
    (one, other), optimizer = pair(world, **mode, workers=2 * world.size)
    for passes in (0, 1, 2):
        for number, _ in enumerate(optimizer.workers(1)):
            if number < passes:
                (7 * one.sum() + other.sum()).backward()
                optimizer.add(torch.tensor(7.0), 5)
            if number == max(0, passes - 1):
                optimizer.zero_grad()
                break
    for _ in optimizer.workers(1):
        (one.sum() + other.sum()).backward()
        optimizer.add(torch.tensor(1.0), 3)
    outcome = optimizer.step()
    assert all_are(one, 0) and all_are(other, 0)
    assert outcome.loss == 1.0 and outcome.samples == 6 * world.size


def test_a_gradient_set_by_hand_for_a_later_worker_is_added(world: World, mode: Mode) -> None:
    (one, other), optimizer = pair(world, **mode, workers=2 * world.size)
    for number, _ in enumerate(optimizer.workers(1)):
        if number == 0:
            (one.sum() + other.sum()).backward()
        else:
            one.grad = torch.full_like(one, 3.0)
    optimizer.step()
    assert all_are(one, -1.0) and all_are(other, 0.5)
