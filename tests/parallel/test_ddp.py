"""GenericAdam under DDP over gloo: torch's Adam in the same place gives the same numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator

import pytest
import torch
import torch.distributed as dist
from conftest import open_world
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hvd_adam import GenericAdam


@pytest.fixture(scope="module")
def gloo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The process group over a file that rank 0 names; gives the rank."""
    world = open_world("mpi")
    mine = str(tmp_path_factory.mktemp("gloo") / "store").encode() if world.rank == 0 else b""
    store = Path(os.fsdecode(world.allgather_bytes(mine)[0]))
    dist.init_process_group("gloo", init_method=store.as_uri(), rank=world.rank, world_size=world.size)
    yield world.rank
    dist.destroy_process_group()


def train(build: Any, rank: int, unused: bool = False, **options: Any) -> nn.Module:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
    if unused:
        network.register_parameter("never", nn.Parameter(torch.ones(4)))
    model: Any = DistributedDataParallel(network, find_unused_parameters=unused)
    optimizer = build(model.parameters(), lr=0.01, **options)
    for step in range(30):
        generator = torch.Generator().manual_seed(1000 * step + rank)
        inputs = torch.randn(8, 6, generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), (inputs.sum(1) > 0).long()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    return network


@pytest.mark.parametrize("unused", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_equals_torchs_fused_adam_bit_for_bit(gloo: int, decay: float, unused: bool) -> None:
    mine = train(GenericAdam, gloo, unused=unused, weight_decay=decay)
    theirs = train(torch.optim.Adam, gloo, unused=unused, weight_decay=decay, fused=True)
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
