"""The collectives of each engine against what can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from conftest import TWO_EACH, open_world

from hvd_adam.comm import World


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_allreduce_sums_in_place(world: World, dtype: torch.dtype) -> None:
    tensor = torch.arange(5, dtype=dtype) * (world.rank + 1)
    world.wait(world.start_allreduce(tensor, f"sum-{dtype}"))
    assert torch.equal(tensor, torch.arange(5, dtype=dtype) * sum(range(1, world.size + 1)))


def test_sums_that_say_so_add_in_the_order_of_the_tree(world: World, request: pytest.FixtureRequest) -> None:
    tensor = world.zeros(1000, torch.float32, torch.device("cpu"))
    engine = request.node.callspec.params["world"].partition(",")[0]
    assert world.adds_in_order(tensor) == (world.size == 1 or engine in ("horovod", "direct", TWO_EACH))
    if not world.adds_in_order(tensor):
        return
    everyones = [torch.randn(1000, generator=torch.Generator().manual_seed(rank)) for rank in range(world.size)]
    tensor.copy_(everyones[world.rank])
    world.wait(world.start_allreduce(tensor, "in order"))
    pairs = [a + b for a, b in zip(everyones[::2], everyones[1::2], strict=False)] or everyones
    assert torch.equal(tensor, pairs[0] + pairs[1] if len(pairs) > 1 else pairs[0])


def test_alltoall_sends_each_rank_its_part_in_rank_order(world: World) -> None:
    counts = [destination + 1 for destination in range(world.size)]
    sent = torch.cat([torch.full((n,), 10.0 * world.rank + r) for r, n in enumerate(counts)])
    received = world.alltoall(sent, counts, [world.rank + 1] * world.size, "parts")
    expected = torch.cat([torch.full((world.rank + 1,), 10.0 * source + world.rank) for source in range(world.size)])
    assert torch.equal(received, expected)


def test_allgather_concatenates_in_rank_order(world: World) -> None:
    gathered = world.allgather(torch.full((3,), float(world.rank)), "gather")
    assert torch.equal(gathered, torch.arange(world.size).repeat_interleave(3).float())


def test_broadcast_gives_everybody_the_roots_values(world: World) -> None:
    tensor = torch.full((4,), world.rank + 7.0)
    world.broadcast(tensor)
    assert torch.equal(tensor, torch.full((4,), 7.0))


def test_bytes_of_different_lengths_arrive_whole(world: World) -> None:
    assert world.allgather_bytes(b"x" * world.rank) == [b"x" * rank for rank in range(world.size)]


def test_local_ranks_count_up_on_one_host(world: World) -> None:
    assert (world.local_rank, world.local_size) == (world.rank, world.size)


def test_sums_within_a_machine_are_mpis_unless_horovod_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import horovod.torch as hvd

    asked: list[str] = []
    original = hvd.allreduce_async_
    monkeypatch.setattr(hvd, "allreduce_async_", lambda *a, **k: (asked.append(k["name"]), original(*a, **k))[1])
    for engine in ("horovod", "all by horovod"):
        world = open_world(engine)
        for dtype in (torch.float32, torch.float16):
            world.wait(world.start_allreduce(torch.ones(3, dtype=dtype), f"{engine} {dtype}"))
    assert asked == ["all by horovod torch.float32", "all by horovod torch.float16"]
