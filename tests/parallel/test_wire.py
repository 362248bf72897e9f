"""What half precision on the wire costs in accuracy: never more than its rounding can explain."""

from __future__ import annotations

import torch
from torch import nn

from hvd_adam import DistributedOptimizer
from hvd_adam.comm import World
from hvd_adam.optim.wire import START

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
