"""Sums over machines of two ranks each, which here are all on this one, against what can be worked out by hand."""

from __future__ import annotations

import os
import time

import pytest
import torch
from conftest import TWO_EACH, Finishing, open_world
from test_averaging import WORKERS, run
from torch import nn

from hvd_adam import DistributedOptimizer, GenericAdam
from hvd_adam.comm import World, direct
from hvd_adam.comm.hierarchical import HierarchicalSums
from hvd_adam.comm.solo import SoloWorld
from hvd_adam.optim.agreement import digest

CPU = torch.device("cpu")
BLOCK = direct.BLOCK // 8  # doubles

pytestmark = pytest.mark.skipif(
    int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1")) < 4, reason="two machines of two ranks are four ranks"
)


def layered() -> World:
    world = open_world(TWO_EACH)
    assert isinstance(world._shared, HierarchicalSums)
    assert world._sums == "hierarchical"
    return world


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("length", [1, 8, 17, 1000, 5 * BLOCK + 3])
def test_every_rank_gets_the_sum_of_all_numbers(length: int, dtype: torch.dtype) -> None:
    world = layered()
    tensor = world.zeros(length, dtype, CPU)
    assert world._shared.holds(tensor)
    numbers = torch.arange(length) % 100
    for round in range(3):
        tensor.copy_(numbers * (world.rank + 1) + round)
        world.wait(world.start_allreduce(tensor, "sum"))
        assert torch.equal(tensor, (numbers * sum(range(1, world.size + 1)) + world.size * round).to(dtype))


def test_each_number_is_finished_by_one_rank_of_all_machines() -> None:
    world, length = layered(), 5 * BLOCK + 3
    tensor = world.zeros(length, torch.float64, CPU)
    tensor.fill_(1.0 / world.size)
    finish = Finishing()
    total = world.wait(world.start_allreduce(tensor, "finished", finish))
    assert torch.equal(tensor, 1.0 + torch.arange(length, dtype=torch.float64))
    assert all(len(one) > 1 for one in finish.check(world, total, length))


def test_between_machines_a_rank_sends_its_part_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world, length = layered(), 12 * BLOCK
    tensor, sent = world.zeros(length, torch.float64, CPU), []
    send = direct.DirectSums._send

    def watched(self: direct.DirectSums, parts: object, tag: int) -> object:
        parts = list(parts)
        sent.extend(part.numel() for _, part in parts)
        return send(self, parts, tag)

    monkeypatch.setattr(direct.DirectSums, "_send", watched)
    world.wait(world.start_allreduce(tensor, "watched"))
    machines = world.size // 2
    there_and_back = 2 * (machines - 1) / machines
    assert sum(number for number in sent if number > 1) == pytest.approx(there_and_back * length / 2, rel=1e-4)


def test_progress_alone_brings_sums_to_their_end() -> None:
    world = layered()
    tensor = world.zeros(9 * BLOCK, torch.float64, CPU)
    tensor.fill_(1.0)
    end = world.start_allreduce(tensor, "alone")
    deadline = time.monotonic() + 60
    while world._shared._across._open and time.monotonic() < deadline:
        time.sleep(2 * direct._PAUSE)
        world.progress()
    world.barrier()
    assert torch.equal(tensor, torch.full_like(tensor, world.size))
    world.wait(end)


def test_halves_on_the_wire_are_summed_beside_backward() -> None:
    world = layered()
    model = nn.Linear(20, 20)
    optimizer = DistributedOptimizer(GenericAdam(model.parameters()), world, wire="fp16")
    model(torch.ones(1, 20)).sum().backward()
    assert len(optimizer._in_flight) == 1
    assert all(world._shared.holds(twin) for twin in optimizer._wire._twins.values())
    optimizer.step()


def test_memory_that_one_machine_does_not_share_is_summed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    world = layered()
    if world.rank == 3:
        monkeypatch.setattr("hvd_adam.comm.shared._Memory.of_another", lambda memory, address: None)
    tensor = world.zeros(100, torch.float32, CPU).add_(world.rank)
    assert not world._shared.holds(tensor)
    world.wait(world.start_allreduce(tensor, "unshared"))
    assert torch.equal(tensor, torch.full((100,), float(sum(range(world.size)))))


def test_where_one_machine_never_shares_memory_horovod_makes_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    world = layered()
    if world.rank == 3:
        monkeypatch.setattr("hvd_adam.comm.shared._Memory.of_another", lambda memory, address: None)
    monkeypatch.setattr("hvd_adam.comm.mpi.of_this_machine", lambda comm: comm.Split(comm.Get_rank() // 2))
    assert type(world)()._sums == "horovod"


def test_where_a_machines_ranks_do_not_follow_each_other_exact_mode_adds_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = layered()
    monkeypatch.setattr("hvd_adam.comm.mpi.of_this_machine", lambda comm: comm.Split(comm.Get_rank() % 2))
    in_turn = type(world)()
    assert in_turn._sums == "hierarchical"
    assert world.adds_in_order(world.zeros(5, torch.float32, CPU))
    assert not in_turn.adds_in_order(in_turn.zeros(5, torch.float32, CPU))
    models = [run(one, torch.float32, workers=WORKERS, determinism="exact") for one in (in_turn, SoloWorld())]
    assert digest(models[0].parameters()) == digest(models[1].parameters())
