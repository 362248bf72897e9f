"""What averaged gradients refuse, and what a step that is left out leaves as it was."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import pytest
import torch
from torch import nn

from hvd_adam import DistributedOptimizer, GenericAdam
from hvd_adam.comm import World
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.optim.agreement import refuse_drift


def wrapped(world: World, model: nn.Module, **options: Any) -> DistributedOptimizer:
    return DistributedOptimizer(GenericAdam(model.parameters()), world, model=model, **options)


def test_a_nan_among_the_samples_leaves_batch_norm_as_it_was(world: World) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = wrapped(world, model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    samples = torch.randn(5, 3)
    if world.rank == world.size - 1:
        samples[0, 0] = float("nan")
    model(samples).sum().backward()
    assert optimizer.step().skipped
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_parameter_that_comes_later_is_refused_on_every_rank(world: World) -> None:
    """Each rank would step by its own gradient."""
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    optimizer = wrapped(world, model)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    model.bias.requires_grad_(True)
    (model(torch.ones(1, 3)).sum() * (world.rank + 1)).backward()
    with pytest.raises(RunError, match=r"shape \(2,\) that was added or unfrozen"):
        optimizer.step()


def test_counters_advance_once_a_step_however_many_passes_it_has(world: World) -> None:
    model = nn.BatchNorm1d(2)
    optimizer = wrapped(world, model, accumulation=3, workers=2 * world.size)
    for step in range(1, 3):
        for _ in optimizer.workers(step):
            for _ in range(3):
                model(torch.randn(4, 2)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        assert model.num_batches_tracked is not None and model.num_batches_tracked.item() == step


def test_half_precision_that_overflows_is_left_out_whatever_was_asked(world: World) -> None:
    model = nn.Linear(3, 1)
    optimizer = wrapped(world, model, wire="fp16", skip_nonfinite=False)
    before = model.weight.detach().clone()  # rank 0's, by now
    (model(torch.ones(1, 3)).sum() * 1e4).backward()
    assert optimizer.step().skipped
    assert torch.equal(model.weight, before)
    state = optimizer.averaging_state()["wire"]
    assert state["scale"] < 1024
    other = wrapped(world, nn.Linear(3, 1), wire="fp16")
    other.load_state_dict(optimizer.state_dict())
    assert other.averaging_state() == optimizer.averaging_state()


def test_a_gradscaler_that_is_handed_in_decides_alike_on_all_ranks(world: World) -> None:
    """An infinity on one rank only; the trained weights are those of the same steps without a scaler."""
    weights = []
    for scaled in (True, False):
        torch.manual_seed(3)
        model = nn.Linear(3, 1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000) if scaled else None
        optimizer = wrapped(world, model, scaler=scaler, clip_norm=0.5)
        for step in range(1, 6):
            loss = (model(torch.full((1, 3), float(step + world.rank))) ** 2).mean()
            if step == 3 and world.rank == 0:
                loss = loss * float("inf")
            (scaler.scale(loss) if scaler else loss).backward()
            assert optimizer.step().skipped is (step == 3)
            optimizer.zero_grad()
        refuse_drift(world, model.parameters(), "after the last step")
        weights.append(model.weight.detach().clone())
        if scaler:
            assert scaler.get_scale() == 512.0
    assert torch.allclose(*weights, rtol=1e-5)


def test_a_gradscaler_around_the_optimizer_is_refused(world: World) -> None:
    model = nn.Linear(3, 1)
    optimizer = wrapped(world, model)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(model(torch.ones(1, 3)).sum()).backward()
    with pytest.raises(ConfigError, match="Hand it in"):
        scaler.step(optimizer)


def test_a_closure_is_refused(world: World) -> None:
    optimizer: Any = wrapped(world, nn.Linear(3, 1))
    with pytest.raises(ConfigError, match="Call backward first"):
        optimizer.step(lambda: 0.0)


def test_sparse_gradients_are_refused(world: World) -> None:
    model = nn.Embedding(4, 2, sparse=True)
    optimizer = wrapped(world, model)  # held: it lives no longer than its user wants it
    with pytest.raises(ConfigError, match="sparse=False"):
        model(torch.tensor([1])).sum().backward()
    assert optimizer.bucket_count == 1


def test_zeros_in_place_of_none_are_taken_in(world: World) -> None:
    model, unused = nn.Linear(3, 1, bias=False), nn.Parameter(torch.ones(2))
    optimizer = DistributedOptimizer(torch.optim.SGD([*model.parameters(), unused], lr=1.0), world)
    start = model.weight.detach().clone()
    for _ in range(3):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        assert model.weight.grad is not None and model.weight.grad.abs().sum() == 0
        assert unused.grad is None  # as torch leaves it
    assert torch.allclose(start - model.weight, torch.full((1, 3), 3.0))


@pytest.mark.parametrize(
    ("parameters", "options", "text"),
    [
        ([], {}, "nothing to average"),
        ([nn.Parameter(torch.zeros(2, dtype=torch.complex64))], {}, "view_as_real"),
        ([nn.Parameter(torch.zeros(2))], {"clip_norm": -1.0}, "clip_norm: -1.0"),
        ([nn.Parameter(torch.zeros(2))], {"bucket_mb": 0}, "bucket_mb: 0"),
        ([nn.Parameter(torch.zeros(2))], {"bucket_mb": float("inf")}, "bucket_mb: inf"),
        ([nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))], {"scaler": object()}, "parameter in bfloat16"),
    ],
)
def test_options_out_of_range_are_refused(world: World, parameters: Any, options: dict[str, Any], text: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    optimizer.param_groups[0]["params"] = parameters
    with pytest.raises(ConfigError, match=text):
        DistributedOptimizer(optimizer, world, **options)


@pytest.mark.parametrize("determinism", ["default", "exact"])
@pytest.mark.parametrize("how", ["no loop", "too few", "too many"])
def test_a_step_of_another_number_of_workers_is_refused(world: World, determinism: str, how: str) -> None:
    model = nn.Linear(3, 1)
    optimizer = wrapped(world, model, workers=2 * world.size, determinism=determinism)

    def make(workers: Iterable[int]) -> None:
        for _ in workers:
            model(torch.ones(1, 3)).sum().backward()

    with pytest.raises(RunError, match=f"a step with {3 if how == 'too many' else 1} workers? on a rank that plays 2"):
        if how == "no loop":
            make([0])
        elif how == "too few":
            make(islice(optimizer.workers(1), 1))
        else:
            make(optimizer.workers(1))
            make(optimizer.workers(1))
        optimizer.step()


@pytest.mark.parametrize(
    ("option", "value"), [("check_every", 5), ("clip_norm", 1.0), ("skip_nonfinite", False), ("accumulation", 3)]
)
def test_ranks_that_average_in_other_ways_are_refused_by_name(world: World, option: str, value: Any) -> None:
    if world.size == 1:
        pytest.skip("one rank averages in one way")
    with pytest.raises(RunError, match=f"{option} is "):
        wrapped(world, nn.Linear(2, 1), **({option: value} if world.rank else {}))


def test_passes_of_all_workers_without_naming_them_are_their_sum(world: World) -> None:
    """Where nothing is asked for of each worker alone."""
    model = nn.Linear(3, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=1.0), world, workers=2 * world.size)
    for factor in (1.0, 3.0):
        (factor * model(torch.ones(1, 3)).sum()).backward()
    optimizer.step()
    assert torch.equal(model.weight.detach(), torch.full((1, 3), -2.0))
    norm = nn.BatchNorm1d(3)
    optimizer = wrapped(world, norm, workers=2 * world.size)
    for _ in range(2):
        norm(torch.randn(4, 3)).sum().backward()
    with pytest.raises(RunError, match="on a rank that plays 2"):
        optimizer.step()
