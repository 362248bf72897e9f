"""Sums in memory that the ranks of a machine share, against what can be worked out by hand."""

from __future__ import annotations

import os
import random
import time

import pytest
import torch
from conftest import TWO_EACH, maps, open_world
from torch import nn

from hvd_adam import DistributedOptimizer, GenericAdam
from hvd_adam.comm import World, direct, shared
from hvd_adam.errors import RunError

CPU = torch.device("cpu")
LENGTHS = [1, 15, 16, 17, 1000, 3 * (shared._CACHED // 4) + 5]


def sharing() -> World:
    return open_world("horovod")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", LENGTHS)
def test_every_rank_gets_the_sum_of_all_numbers(length: int, dtype: torch.dtype) -> None:
    world = sharing()
    tensor = world.zeros(length, dtype, CPU)
    assert world.size == 1 or world._shared.holds(tensor)
    for round in range(3):
        tensor.copy_(torch.arange(length) * (world.rank + 1) + round)
        world.wait(world.start_allreduce(tensor, "sum"))
        ranks = world.size
        assert torch.equal(tensor, (torch.arange(length) * sum(range(1, ranks + 1)) + ranks * round).to(dtype))


@pytest.mark.parametrize("length", LENGTHS)
def test_each_number_is_finished_once_in_its_place_and_all_hear_the_total(world: World, length: int) -> None:
    tensor = world.zeros(length, torch.float64, CPU)
    tensor.fill_(1.0)

    def finish(part: torch.Tensor, begin: int) -> float:
        part.mul_(10).add_(torch.arange(begin, begin + part.numel()))
        return float(part.sum())

    total = world.wait(world.start_allreduce(tensor, "finished", finish))
    expected = 10.0 * world.size + torch.arange(length, dtype=torch.float64)
    assert torch.equal(tensor, expected)
    assert total == pytest.approx(float(expected.sum()), rel=1e-14)
    assert len(set(world.allgather_bytes(repr(total).encode()))) == 1


BLOCK = direct.BLOCK // 8  # doubles that ranks which send to each other sum as one


@pytest.mark.parametrize(
    ("engine", "lengths", "rounds"),
    [
        *((engine, (40, 3000, 7), 300) for engine in ("horovod", "direct", TWO_EACH)),
        *((engine, (3, 2 * BLOCK, 40, BLOCK + 1), 12) for engine in ("direct", TWO_EACH)),
    ],
)
def test_ranks_that_come_at_different_times_never_see_a_sum_of_another_round(
    engine: str, lengths: tuple[int, ...], rounds: int
) -> None:
    world, pause = open_world(engine), random.Random(sharing().rank)
    tensors = [world.zeros(length, torch.float64, CPU) for length in lengths]
    ranks = sum(range(1, world.size + 1))
    for round in range(rounds):
        handles = []
        for place, tensor in enumerate(tensors):
            if pause.random() < 0.05:
                time.sleep(0.002)
            tensor.fill_((round + place) * (world.rank + 1))
            handles.append(world.start_allreduce(tensor, f"round {place}"))
            world.progress()
        for place, (tensor, handle) in enumerate(zip(tensors, handles, strict=True)):
            world.wait(handle)
            if pause.random() < 0.05:
                time.sleep(0.002)
            assert torch.equal(tensor, torch.full_like(tensor, (round + place) * ranks))


def test_where_a_rank_cannot_see_the_others_memory_mpi_makes_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    world = sharing()
    if world.rank == world.size - 1:
        monkeypatch.setattr(shared._Memory, "of_another", lambda memory, address: None)
    tensor = world.zeros(100, torch.float32, CPU)
    assert world.size == 1 or not world._shared.holds(tensor)
    tensor.fill_(world.rank + 1)
    world.wait(world.start_allreduce(tensor, "unseen"))
    assert torch.equal(tensor, torch.full((100,), float(sum(range(1, world.size + 1)))))


def test_memory_of_the_same_number_in_another_process_is_not_taken_for_it() -> None:
    mine = shared._Memory(5000)
    assert mine.address is not None
    process, file, token = mine.address
    assert mine.of_another(mine.address) is not None
    assert mine.of_another((process, file, token + 1)) is None
    mine.close()
    assert mine.of_another(mine.address) is None


def test_optimizers_that_are_gone_leave_no_memory_and_no_file_behind() -> None:
    world = sharing()

    def held() -> tuple[int, int]:
        return maps(), len(os.listdir("/proc/self/fd"))

    def train() -> tuple[int, int]:
        model = nn.Sequential(*(nn.Linear(50, 50) for _ in range(6)))
        optimizer = DistributedOptimizer(GenericAdam(model.parameters()), world, bucket_mb=0.01)
        model(torch.ones(1, 50)).sum().backward()
        optimizer.step()
        mapped, files = held()
        return mapped - (optimizer.bucket_count * world.size if world.size > 1 else 0), files

    before = held()
    assert train() == before
    assert held() == before


def test_gradients_that_are_changed_after_backward_are_averaged_as_they_are_then() -> None:
    world, pause = sharing(), random.Random(sharing().rank)
    model = nn.Sequential(*(nn.Linear(30, 30) for _ in range(5)))
    optimizer = DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=1.0), world, bucket_mb=0.003)
    assert optimizer.bucket_count > 3
    for step in range(20):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer.zero_grad()
        model(torch.full((1, 30), world.rank + 1.0)).sum().backward()
        time.sleep(pause.random() * 0.005)
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad.fill_(step + world.rank)
        optimizer.step()
        mean = step + (world.size - 1) / 2
        for parameter, old in zip(model.parameters(), before, strict=True):
            torch.testing.assert_close(parameter.detach(), old - mean)


def test_ranks_with_different_models_are_refused_by_name(world: World) -> None:
    if world.size == 1:
        pytest.skip("one rank has one model")
    model = nn.Linear(4, 3 if world.rank == world.size - 1 else 2)
    odd = f"the model is .* numbers, shapes .* on rank {world.size - 1}, and .* elsewhere"
    with pytest.raises(RunError, match=odd):
        DistributedOptimizer(GenericAdam(model.parameters()), world)
