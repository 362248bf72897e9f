"""Buffers that a user loads, sets anew or keeps in other types: each worker starts from what stands in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hvd_adam import DistributedOptimizer
from hvd_adam.comm import World
from hvd_adam.errors import RunError
from hvd_adam.optim.agreement import refuse_drift


class Counting(nn.Module):
    """Of each number that comes in, the running sum in a buffer, which is set anew and not changed in place."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("total", torch.zeros(2, dtype=dtype))
        self.total: Tensor

    def forward(self, number: float) -> Tensor:
        self.total = self.total + number
        return (self.weight * number).sum()


def averaged(world: World, model: nn.Module, workers: int = 2, **options: Any) -> DistributedOptimizer:
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    return DistributedOptimizer(sgd, world, model=model, workers=workers * world.size, **options)


def take_step(optimizer: DistributedOptimizer, model: nn.Module, step: int) -> None:
    """Worker w counts w + 1."""
    for worker in optimizer.workers(step):
        model(float(worker + 1)).backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("determinism", ["default", "exact"])
def test_a_buffer_that_is_set_anew_is_the_mean_over_workers(world: World, determinism: str) -> None:
    model = Counting()
    optimizer = averaged(world, model, determinism=determinism)
    mean = (2 * world.size + 1) / 2
    for step in range(1, 4):
        take_step(optimizer, model, step)
        assert torch.allclose(model.total, torch.full((2,), step * mean))
        assert model.state_dict()["total"] is not None and dict(model.named_buffers())["total"] is model.total


def test_what_was_loaded_after_the_wrapping_is_where_workers_start(world: World) -> None:
    model = Counting()
    optimizer = averaged(world, model)
    model.load_state_dict({"weight": torch.ones(2), "total": torch.full((2,), 100.0)})
    take_step(optimizer, model, 1)
    assert torch.allclose(model.total, torch.full((2,), 100.0 + (2 * world.size + 1) / 2))


def test_what_was_loaded_with_the_optimizer_is_what_a_step_that_is_left_out_leaves(world: World) -> None:
    """Without `workers`: a step begins where the optimizer was loaded, or with the step before."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = averaged(world, model, workers=1)
    model.load_state_dict({name: torch.full_like(one, 3) for name, one in model.state_dict().items()})
    optimizer.load_state_dict(optimizer.state_dict())
    model(torch.full((4, 2), torch.nan)).sum().backward()
    assert optimizer.step().skipped
    assert torch.equal(model.state_dict()["1.running_mean"], torch.full((3,), 3.0))


@pytest.mark.parametrize("options", [{}, {"determinism": "exact"}, {"wire": "fp16"}])
def test_buffers_wider_than_the_weights_keep_all_their_digits(world: World, options: dict[str, str]) -> None:
    model = Counting(torch.float64)
    model.total.fill_(2.0**24)
    optimizer = averaged(world, model, **options)
    for step in range(1, 4):
        for _ in optimizer.workers(step):
            model(1.0).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(model.total, torch.full((2,), 2.0**24 + 3, dtype=torch.float64))


class Masking(nn.Module):
    """Constants of all kinds, and masks that are made by the first step that needs them."""

    CONSTANT = {
        "large": torch.full((3, 3), torch.finfo(torch.float32).min).triu(1),
        "short": torch.full((3,), torch.finfo(torch.float16).min, dtype=torch.float16),
        "infinite": torch.tensor([-torch.inf, torch.inf]),
        "thirds": torch.arange(1.0, 50.0) / 3,
        "tiny": torch.full((2,), 3e-45),
    }

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        for name, constant in self.CONSTANT.items():
            self.register_buffer(name, constant.clone())
        self.register_buffer("late", torch.zeros(2))
        self.register_buffer("least", torch.full((2,), torch.inf))
        self.late: Tensor
        self.least: Tensor

    def forward(self, number: float) -> Tensor:
        self.late.fill_(torch.finfo(torch.float32).min)
        self.least.clamp_(max=number)
        return (self.weight * number).sum()


@pytest.mark.parametrize("workers", [1, 3, 7])
@pytest.mark.parametrize("options", [{}, {"determinism": "exact"}, {"wire": "fp16"}], ids=str)
def test_a_buffer_that_no_worker_changes_keeps_its_bits(world: World, options: dict[str, str], workers: int) -> None:
    model, least, count = Masking(), float("inf"), workers * world.size
    optimizer = averaged(world, model, workers, **options)
    for step in range(1, 4):
        take_step(optimizer, model, step)
        buffers = dict(model.named_buffers())
        for name, constant in Masking.CONSTANT.items():
            assert torch.equal(buffers[name], constant)
        assert torch.equal(model.late, torch.full((2,), torch.finfo(torch.float32).min))
        least = sum(min(least, worker + 1.0) for worker in range(count)) / count
        assert torch.allclose(model.least, torch.full((2,), least))
    refuse_drift(world, model.buffers(), "after three steps")


def test_complex_buffers_and_flags_are_left_as_they_are(world: World) -> None:
    model = Counting()
    model.register_buffer("turns", torch.tensor([1 + 2j, 3 - 1j]))
    model.register_buffer("flag", torch.tensor(True))
    optimizer = averaged(world, model, accumulation=2)
    for _ in optimizer.workers(1):
        for _ in range(2):
            model(1.0).backward()
    optimizer.step()
    buffers = dict(model.named_buffers())
    assert torch.equal(buffers["turns"], torch.tensor([1 + 2j, 3 - 1j])) and bool(buffers["flag"])


def test_a_buffer_that_becomes_another_size_is_refused(world: World) -> None:
    model = Counting()
    optimizer = averaged(world, model)
    for _ in optimizer.workers(1):
        model(1.0).backward()
    model.total = torch.zeros(5)
    with pytest.raises(RunError, match=r"buffer total of \(2,\), torch\.float32 on cpu, became \(5,\)"):
        optimizer.step()


@pytest.mark.parametrize(
    ("odd", "text"), [(3, r"buffer 0 of the model is \"\(3,\)"), (0, "the model's number of buffers is 0")]
)
def test_ranks_with_other_buffers_are_refused_by_name(world: World, odd: int, text: str) -> None:
    if world.size == 1:
        pytest.skip("one rank has one model")
    model = Counting()
    if world.rank == world.size - 1:
        model.total = torch.zeros(odd)
        if not odd:
            del model.total
    with pytest.raises(
        RunError, match=f"{text}.* on rank {world.size - 1}" if world.size > 2 else text.split(" is ")[0]
    ):
        averaged(world, model)


def test_a_cache_that_is_not_kept_with_the_model_may_grow(world: World) -> None:
    model = Counting()
    model.register_buffer("cache", torch.zeros(2), persistent=False)
    optimizer = averaged(world, model)
    for step in range(1, 3):
        for worker in optimizer.workers(step):
            model(float(worker + 1)).backward()
            model.register_buffer("cache", torch.full((2 + step,), float(step)), persistent=False)
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(dict(model.named_buffers())["cache"], torch.full((2 + step,), float(step)))
    assert torch.allclose(model.total, torch.full((2,), 2 * (2 * world.size + 1) / 2))
