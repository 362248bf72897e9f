"""GenericAdam set up by Lightning Fabric."""

from __future__ import annotations

from typing import Any

import lightning_fabric
import pytest
import torch
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import nn

from hvd_adam import GenericAdam


def train(build: Any, precision: str, **options: Any) -> nn.Module:
    torch.manual_seed(3)
    alone = LightningEnvironment()  # left to look for itself, Fabric opens MPI
    fabric = lightning_fabric.Fabric(accelerator="cpu", devices=1, precision=precision, plugins=[alone])
    network = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
    model, optimizer = fabric.setup(network, build(network.parameters(), lr=0.01, **options))
    for step in range(20):
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        fabric.backward(nn.functional.cross_entropy(model(inputs), (inputs.sum(1) > 0).long()))
        fabric.clip_gradients(model, optimizer, max_norm=0.5)
        optimizer.step()
    return network


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_fabric_gives_what_it_gives_with_torchs_adam(precision: str) -> None:
    mine, theirs = train(GenericAdam, precision), train(torch.optim.Adam, precision, fused=True)
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
