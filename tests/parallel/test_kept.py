"""Gradients that are summed where autograd left them, against those that go through buckets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from conftest import maps
from test_divided import assert_equal, sharing, small, steps, weights, wrapped
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from hvd_adam import DistributedOptimizer, GenericAdam
from hvd_adam.errors import RunError
from hvd_adam.optim import kept

__all__ = ["small"]  # a fixture that each test takes


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small gradients are kept, too, and summed in many pieces."""
    monkeypatch.setattr(kept, "SMALLEST", 1)
    monkeypatch.setattr(kept, "_CACHED", 256)


def keeping(parameters: list[nn.Parameter], **options: Any) -> DistributedOptimizer:
    made = wrapped(parameters, share_weights=True, **options)
    wide = sum(one.numel() > 0 and one.dtype.itemsize >= 4 for one in parameters)
    assert len(made._kept) == (wide if sharing().size > 1 else 0)
    return made


def in_buckets(parameters: list[nn.Parameter], **options: Any) -> DistributedOptimizer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "SMALLEST", 1 << 60)
        made = wrapped(parameters, share_weights=True, **options)
    assert not made._kept
    return made


def both(**options: Any) -> list[tuple[DistributedOptimizer, list[nn.Parameter]]]:
    return [(make(its, **options), its) for make, its in ((keeping, weights()), (in_buckets, weights()))]


def scaled(parameters: list[nn.Parameter]) -> torch.Tensor:
    """A loss of this rank whose gradients differ by parameter, rank and weight."""
    factor = sharing().rank + 1.0
    return torch.stack([(factor * (place + 1) * one**3).sum() for place, one in enumerate(parameters)]).sum()


def mean_over_ranks() -> float:
    return (sharing().size + 1) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"amsgrad": True, "weight_decay": 0.1}, {"bias_correction": False, "lr": "0.1/sqrt(t)", "maximize": True}],
    ids=str,
)
def test_steps_are_those_of_gradients_in_buckets(dtype: torch.dtype, options: dict[str, Any]) -> None:
    one, other = weights(dtype), weights(dtype)
    made = [(keeping(one, **options), one), (in_buckets(other, **options), other)]
    for step in range(1, 6):
        for optimizer, its in made:
            steps(optimizer, its, range(step, step + 1))
        assert_equal(made[0][0], made[1][0])
    for _ in range(3):
        for optimizer, its in made:
            optimizer.zero_grad()
            scaled(its).backward()
            optimizer.step()
        assert_equal(made[0][0], made[1][0])


def test_parameters_of_two_precisions_and_their_riders() -> None:
    """Where all of the wider are kept, what rides along is still as wide."""
    world, lost = sharing(), []
    for make in (keeping, in_buckets):
        mixed = [*weights(torch.bfloat16)[:2], *weights(torch.float64)[5:]]
        optimizer = make(mixed)
        scaled(mixed).backward()
        optimizer.add(torch.tensor(1.0 + 1e-12 * world.rank, dtype=torch.float64), 3)
        outcome = optimizer.step()
        assert outcome.loss == pytest.approx(1.0 + 1e-12 * (world.size - 1) / 2, rel=1e-15, abs=0)
        assert outcome.samples == 3 * world.size
        lost.append(mixed)
    assert all(torch.equal(a, b) for a, b in zip(*lost, strict=True))


def test_the_norm_is_the_means_and_clips_it() -> None:
    """It is added up in another order than that of buckets: weights agree but for rounding."""
    (one, its), (other, others) = both(clip_norm=0.5, lr=0.1)
    for _ in range(3):
        with torch.no_grad():
            means = [3 * (place + 1) * mean_over_ranks() * weight**2 for place, weight in enumerate(its)]
            norm = torch.cat([mean.double().view(-1) for mean in means]).norm().item()
        for optimizer, parameters in ((one, its), (other, others)):
            optimizer.zero_grad()
            scaled(parameters).backward()
            assert optimizer.step().grad_norm == pytest.approx(norm, rel=1e-5)
        for a, b in zip(its, others, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_gradient_of_a_ranks_own_part_is_never_copied() -> None:
    world, parameters = sharing(), weights()
    if world.size == 1:
        pytest.skip("one rank keeps all, in the plain way")
    optimizer = keeping(parameters)
    left: dict[int, int] = {}
    for number, parameter in enumerate(parameters):  # called after the optimizer's own
        parameter.register_post_accumulate_grad_hook(
            lambda parameter, number=number: left.update({number: parameter.grad.data_ptr()})
        )
    scaled(parameters).backward()
    optimizer._filling.sweep(0, last=True)
    whole = 0
    for number, place in optimizer._kept._places.items():
        gradient = parameters[number].grad
        assert gradient is not None
        if place.is_kept:
            assert place.gradient is not None and place.gradient.data_ptr() == gradient.data_ptr() == left[number]
            assert not place.everyones[world.rank][place.own].any()
        assert (gradient.data_ptr() == place.view.data_ptr()) is not place.is_kept
        whole += place.is_kept
    assert 0 < whole < len(parameters) or world.rank not in (0, world.size - 1)
    optimizer.step()


def test_ranks_that_sum_late_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last rank has the next gradients by then, if nothing holds it; every second step is left out by all."""
    world, parameters = sharing(), weights()
    optimizer, add, last = keeping(parameters), kept.Place.add, sharing().size - 1

    def late(place: kept.Place, made: Callable[[torch.Tensor], Any]) -> float:
        time.sleep(0.01 if world.rank != last else 0)
        return add(place, made)

    monkeypatch.setattr(kept.Place, "add", late)
    numbers = sum(one.numel() for one in parameters)
    for step in range(1, 7):
        optimizer.zero_grad()
        bad = step % 2 == 0
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, float(step + world.rank))
        if bad and world.rank == last:
            parameters[1].grad[0] = float("nan")
        outcome = optimizer.step()
        assert outcome.skipped is bad
        assert bad or outcome.grad_norm == pytest.approx((step + last / 2) * numbers**0.5, rel=1e-6)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_hook_sees_means(after: bool) -> None:
    pairs, seen = both(), ([], [])
    for (optimizer, its), found in zip(pairs, seen, strict=True):

        def look(*given: Any, its: list[nn.Parameter] = its, found: list[torch.Tensor] = found) -> None:
            found += [one.grad.clone() for one in its if one.grad is not None]

        inner = optimizer.optimizer
        (inner.register_step_post_hook if after else inner.register_step_pre_hook)(look)
    for step in range(1, 4):
        for optimizer, its in pairs:
            steps(optimizer, its, range(step, step + 1))
    assert len(seen[0]) == len(seen[1]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_a_hook_of_all_optimizers_on_one_rank_sees_means_and_holds_nobody_up() -> None:
    world, pairs = sharing(), both()
    seen: list[list[torch.Tensor]] = []

    def look(optimizer: torch.optim.Optimizer, *given: Any) -> None:
        seen.append([one.grad.clone() for one in optimizer.param_groups[0]["params"] if one.grad is not None])

    held = register_optimizer_step_pre_hook(look) if world.rank == 0 else None
    try:
        for step in range(1, 4):
            for optimizer, its in pairs:
                steps(optimizer, its, range(step, step + 1))
            assert_equal(pairs[0][0], pairs[1][0])
    finally:
        if held:
            held.remove()
    assert len(seen) == (6 if world.rank == 0 else 0)
    for of_kept, of_buckets in zip(seen[::2], seen[1::2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(of_kept, of_buckets, strict=True))


def test_what_a_hook_before_the_step_changes_counts() -> None:
    pairs = both()
    for optimizer, its in pairs:

        def before(*given: Any, its: list[nn.Parameter] = its) -> None:
            for one in its:
                if one.grad is not None:
                    one.grad.mul_(0.5)

        optimizer.optimizer.register_step_pre_hook(before)
    for step in range(1, 4):
        for optimizer, its in pairs:
            steps(optimizer, its, range(step, step + 1))
        assert_equal(pairs[0][0], pairs[1][0])


def test_gradients_are_gone_after_the_step() -> None:
    parameters = weights()
    if sharing().size == 1:
        pytest.skip("one rank keeps none")
    optimizer = keeping(parameters)
    steps(optimizer, parameters, range(1, 2))
    assert all(one.grad is None for one in parameters if one.numel())


def test_a_step_whose_gradient_is_not_finite_on_one_rank_is_left_out_by_all() -> None:
    pairs = both()
    for step in range(1, 4):
        for optimizer, its in pairs:
            optimizer.zero_grad()
            scaled(its).backward()
            if step == 2 and sharing().rank == 0:
                assert its[5].grad is not None
                its[5].grad[-1, -1] = float("inf")
            assert optimizer.step().skipped is (step == 2)
    assert_equal(pairs[0][0], pairs[1][0])


def test_gradients_after_a_step_that_failed_are_refused() -> None:
    parameters = weights()[-2:]
    if sharing().size == 1:
        pytest.skip("one rank keeps none")
    optimizer = keeping(parameters)
    assert len(optimizer._kept) == len(parameters)
    scaled(parameters).backward()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizer.optimizer, "step", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            optimizer.step()
    optimizer.zero_grad()
    with pytest.raises(RunError, match="came after its sum had begun"):
        scaled(parameters).backward()


def test_a_model_that_was_converted_after_the_wrapping_is_refused() -> None:
    parameters = weights()
    if sharing().size == 1:
        pytest.skip("one rank keeps none")
    optimizer = keeping(parameters)
    for parameter in parameters:
        parameter.data = parameter.data.double()
        parameter.grad = torch.ones_like(parameter)
    with pytest.raises(RunError, match=r"numbers, torch.float32 on cpu, became one of .* torch.float64 on cpu"):
        optimizer.step()


@pytest.mark.parametrize(
    "options",
    [
        {"share_weights": False},
        {"check_every": 5},
        {"accumulation": 2},
        {"workers": 8},
        {"determinism": "exact"},
        {"wire": "fp16"},
        {"noise_every": 3},
        {"scaler": torch.amp.GradScaler("cpu")},
    ],
    ids=["own weights", "checks", "accumulation", "workers", "exact", "wire", "noise", "scaler"],
)
def test_where_more_than_one_sum_of_a_gradient_is_needed_buckets_take_all(options: dict[str, Any]) -> None:
    if sharing().size == 1:
        pytest.skip("one rank keeps none")
    optimizer = DistributedOptimizer(GenericAdam(weights()), sharing(), **{"share_weights": True, **options})
    assert not optimizer._kept


@pytest.fixture
def nothing_left() -> Iterator[None]:
    before = maps()
    yield
    assert maps() == before


@pytest.mark.usefixtures("nothing_left")
def test_memory_goes_with_the_model() -> None:
    parameters = weights()
    steps(keeping(parameters), parameters, range(1, 3))
    assert maps() > 0 or sharing().size == 1
