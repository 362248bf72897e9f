"""GenericAdam inside stock hvd.DistributedOptimizer: torch's Adam in the same place gives the same numbers."""

from __future__ import annotations

import copy
from typing import Any, Callable

import pytest
import torch
from conftest import open_world
from torch import nn

from hvd_adam import GenericAdam

hvd = pytest.importorskip("horovod.torch")
STEPS = 30


class Branched(nn.Module):
    """One layer is used by the odd ranks only, one by nobody: stock Horovod sends zeros for them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.last = nn.Linear(6, 12), nn.Linear(12, 3)
        self.sometimes, self.never = nn.Linear(12, 12), nn.Linear(2, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.first(inputs))
        return self.last(self.sometimes(hidden) if hvd.rank() % 2 else hidden)


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1000 * step + hvd.rank())
    inputs = torch.randn(8, 6, generator=generator)
    return nn.functional.cross_entropy(model(inputs), (inputs.sum(1) > 0).long())


def wrap(model: nn.Module, build: Callable[..., torch.optim.Optimizer], **options: Any) -> Any:
    groups = [{"params": [*model.first.parameters()]}, {"params": [*model.parameters()][2:], "lr": 0.02}]
    return hvd.DistributedOptimizer(build(groups, lr=0.01, **options), named_parameters=model.named_parameters())


def train(model: nn.Module, optimizer: Any, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def agreed(model: nn.Module) -> bool:
    """Whether every rank has rank 0's parameters."""
    return all(torch.equal(p, hvd.broadcast(p.detach(), 0, name=f"agreed.{n}")) for n, p in model.named_parameters())


CASES = {
    "Adam": (torch.optim.Adam, {}, {}),
    "Adam with l2": (torch.optim.Adam, {"weight_decay": 0.1}, {"weight_decay": 0.1}),
    "AdamW": (torch.optim.AdamW, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "AMSGrad": (torch.optim.Adam, {"amsgrad": True}, {"amsgrad": True}),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_torchs_fused_adam_bit_for_bit(name: str) -> None:
    open_world("horovod")
    peer, theirs, mine = CASES[name]
    models = [Branched(), Branched()]
    for model, build, options in zip(models, (peer, GenericAdam), ({"fused": True, **theirs}, mine), strict=True):
        optimizer = wrap(model, build, **options)
        hvd.broadcast_parameters(model.state_dict(), 0)
        if build is GenericAdam:  # on a fresh torch.optim.Adam it takes a step of its own
            hvd.broadcast_optimizer_state(optimizer, 0)
        train(model, optimizer, range(STEPS))
    assert equal(*models)
    assert agreed(models[1])


def test_broadcasting_a_fresh_optimizer_moves_nothing() -> None:
    open_world("horovod")
    model = Branched()
    before = copy.deepcopy(model)
    optimizer = wrap(model, GenericAdam, weight_decay=0.5)
    hvd.broadcast_optimizer_state(optimizer, 0)
    assert equal(model, before)
    assert [group["t"] for group in optimizer.param_groups] == [0, 0]


SCHEDULES: list[dict[str, Any]] = [
    {},
    {"betas": (0.9, "1 - 0.9/t^0.5")},
    {"betas": (0.9, "1 - 1/t"), "bias_correction": False, "eps_in": "v0", "v0": 1e-6, "amsgrad": True},
]


@pytest.mark.parametrize("options", SCHEDULES)
def test_a_run_resumed_on_rank_0_goes_on_everywhere_as_the_unbroken_one(options: dict[str, Any]) -> None:
    open_world("horovod")
    unbroken, resumed = Branched(), Branched()
    optimizer = wrap(unbroken, GenericAdam, **options)
    train(unbroken, optimizer, range(10))
    saved = copy.deepcopy((unbroken.state_dict(), optimizer.state_dict()))
    train(unbroken, optimizer, range(10, 20))
    other = wrap(resumed, GenericAdam, **options)
    if hvd.rank() == 0:  # the usual way: only rank 0 reads the file
        resumed.load_state_dict(saved[0])
        other.load_state_dict(saved[1])
    hvd.broadcast_parameters(resumed.state_dict(), 0)
    hvd.broadcast_optimizer_state(other, 0)
    assert [group["t"] for group in other.param_groups] == [10, 10]
    train(resumed, other, range(10, 20))
    assert equal(unbroken, resumed)


def test_a_state_of_torchs_adam_read_on_rank_0_reaches_every_rank() -> None:
    open_world("horovod")
    theirs, mine = Branched(), Branched()
    peer = wrap(theirs, torch.optim.Adam, fused=True)
    train(theirs, peer, range(5))
    saved = copy.deepcopy((theirs.state_dict(), peer.state_dict()))
    train(theirs, peer, range(5, 10))
    optimizer = wrap(mine, GenericAdam)
    if hvd.rank() == 0:
        mine.load_state_dict(saved[0])
        optimizer.load_state_dict(saved[1])
    hvd.broadcast_parameters(mine.state_dict(), 0)
    hvd.broadcast_optimizer_state(optimizer, 0)
    train(mine, optimizer, range(5, 10))
    assert equal(theirs, mine)
