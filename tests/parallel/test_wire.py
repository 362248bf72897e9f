"""What half precision on the wire costs in accuracy: never more than its rounding can explain."""

from __future__ import annotations

from math import inf, nan

import pytest
import torch
from torch import nn

from hvd_adam import DistributedOptimizer
from hvd_adam.comm import World
from hvd_adam.optim.wire import START, HalfWire

ROUNDOFF = 2.0**-11  # of fp16, to nearest
SMALLEST = 2.0**-24  # its smallest number; what is smaller yet rounds to a whole number of these


def test_the_error_of_half_precision_stays_within_its_rounding(world: World) -> None:
    """Bound: every rank's part is rounded once, and every addition once, in whatever order they are made."""
    generator = torch.Generator().manual_seed(5)
    size, ranks = 4096, world.size
    magnitudes = 10.0 ** torch.empty(size, dtype=torch.float64).uniform_(-9, 1, generator=generator)
    signs = torch.randn(ranks, size, dtype=torch.float64, generator=generator)
    gradients = (signs * magnitudes).float()
    parameter = nn.Parameter(torch.zeros(size))
    optimizer = DistributedOptimizer(torch.optim.SGD([parameter], lr=1.0), world, wire="fp16")
    parameter.grad = gradients[world.rank].clone()
    assert not optimizer.step().skipped
    exact, sizes = gradients.double().mean(0), gradients.double().abs().mean(0)
    error = (-parameter.detach().double() - exact).abs()
    rounding = ((1 + ROUNDOFF) ** ranks - 1) * sizes + ranks * SMALLEST / 2 / START * (1 + ROUNDOFF) ** ranks
    assert bool((error <= rounding + 1e-6 * sizes).all())
    assert float((error / sizes).max()) > ROUNDOFF / 10  # it did travel in halves


@pytest.mark.parametrize(
    ("skipped", "largest", "scale", "overflowed"),
    [
        (False, 1e9, 1024, False),  # the sum was finite, as that of numbers of two signs may be
        (True, 31.0, 1024, False),  # 31 x 1,024 fits: something else was not finite
        (True, nan, 1024, False),
        (True, inf, 1024, False),
        (True, 100.0, 256, True),  # 100 x 256 = 25,600 is below half of what fp16 holds, 100 x 512 is not
        (True, 3e38, 2.0**-113, True),
    ],
)
def test_the_scale_falls_as_far_as_the_gradients_need_and_for_nothing_else(
    skipped: bool, largest: float, scale: float, overflowed: bool
) -> None:
    wire = HalfWire([], torch.zeros, parts=2)
    assert wire.learn(skipped, 2 * largest) is overflowed
    assert wire.scale == scale


@pytest.mark.parametrize("size", [1e3, 1e15])
def test_gradients_of_any_size_pass_once_the_scale_has_learnt_of_them(world: World, size: float) -> None:
    parameter = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = DistributedOptimizer(torch.optim.SGD([parameter], lr=1.0), world, wire="fp16")
    gradient = torch.tensor([size, -size / 3, size / 1000], dtype=torch.float64)
    for step in range(3):
        parameter.grad = gradient * (world.rank + 1)
        if step == 2 and world.rank == world.size - 1:
            parameter.grad[0] = nan
        outcome = optimizer.step()
        assert (outcome.skipped, outcome.overflowed) == [(True, True), (False, False), (True, False)][step]
        optimizer.zero_grad()
    mean = gradient * (world.size + 1) / 2
    torch.testing.assert_close(-parameter.detach(), mean, rtol=(1 + ROUNDOFF) ** (world.size + 1) - 1, atol=0)
