"""Sums between ranks that send to each other, against what can be worked out by hand."""

from __future__ import annotations

import time

import pytest
import torch
from conftest import Finishing, open_world
from torch import nn

from hvd_adam import DistributedOptimizer, GenericAdam
from hvd_adam.comm import World, direct

PIECE, BLOCK = direct._PIECE // 8, direct.BLOCK // 8  # doubles


def sending() -> World:
    return open_world("direct")


@pytest.mark.parametrize("length", [0, 1, 3, 5, PIECE - 1, 4 * PIECE + 1, BLOCK, 7 * BLOCK + 11])
def test_every_rank_gets_the_sum_of_all_numbers(length: int) -> None:
    world = sending()
    tensor = torch.arange(length, dtype=torch.float64) * (world.rank + 1)
    world.wait(world.start_allreduce(tensor, "sum"))
    assert torch.equal(tensor, torch.arange(length, dtype=torch.float64) * sum(range(1, world.size + 1)))


def test_what_finish_gives_is_added_up_over_blocks_and_ranks() -> None:
    world, length = sending(), 2 * BLOCK + 7
    tensor = torch.full((length,), 1.0 / world.size, dtype=torch.float64)
    finish = Finishing()
    total = world.wait(world.start_allreduce(tensor, "finished", finish))
    assert torch.equal(tensor, 1.0 + torch.arange(length, dtype=torch.float64))
    finish.check(world, total, length)


def test_progress_alone_brings_sums_to_their_end() -> None:
    world = sending()
    tensor = torch.ones(9 * BLOCK)
    blocks = world._direct.start(tensor, None)
    deadline = time.monotonic() + 60
    while not all(block.made for block in blocks) and time.monotonic() < deadline:
        time.sleep(2 * direct._PAUSE)
        world.progress()
    assert torch.equal(tensor, torch.full_like(tensor, world.size))


def test_a_sum_that_failed_is_never_taken_for_made() -> None:
    def steps() -> direct.Steps:
        yield direct.Awaited(lambda: True)
        raise ValueError("no memory")

    block = direct.Block(steps())
    for _ in range(3):
        with pytest.raises(ValueError, match="no memory"):
            block.go_on()
    assert not block.made


def test_a_computation_goes_on_with_sums_at_each_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    world = sending()
    model = nn.Sequential(*(nn.Linear(20, 20) for _ in range(5)))
    optimizer = DistributedOptimizer(GenericAdam(model.parameters()), world, bucket_mb=0.001)
    calls: list[int] = []
    original = world.progress
    monkeypatch.setattr(world, "progress", lambda: (calls.append(len(optimizer._in_flight)), original())[1])
    model(torch.ones(1, 20)).sum().backward()
    assert len(calls) == 10
    assert calls[-1] > 0
    optimizer.step()
    assert optimizer.world._direct._open == []
