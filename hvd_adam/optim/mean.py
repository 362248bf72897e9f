"""From the sum over workers to their mean: in a pass of its own, or in the optimizer's.

A fused step reads all gradients anyhow, and divides them by a `grad_scale` on the way: the mean then costs no pass
over memory. Gradients hold the mean once the step is made, either way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hvd_adam.optim.buckets import Layout

_WHOLE = 2**24  # up to here float32, which grad_scale is, holds every whole number


def norm_of_sums(layout: Layout) -> float:
    """The Euclidean norm of all gradients; those that nobody has are zeros."""
    norms = [float(torch.linalg.vector_norm(bucket.gradients)) for bucket in layout.buckets if bucket.views]
    return math.sqrt(sum(norm * norm for norm in norms))


def divide(layout: Layout, by: float) -> None:
    """Divides all gradients, in place."""
    if by != 1:
        for bucket in layout.buckets:
            if bucket.views:
                bucket.gradients.mul_(1.0 / by)


def divisor_for(optimizer: Any, parameters: Sequence[Tensor], parts: float) -> Tensor | None:
    """What the optimizer's own step is to divide by; None where it cannot, or somebody may look before it does."""
    fused = getattr(optimizer, "_step_supports_amp_scaling", False)
    watched = bool(optimizer._optimizer_step_pre_hooks)
    if parts == 1 or parts > _WHOLE or watched or not fused or any(p.dtype.itemsize < 4 for p in parameters):
        return None
    return torch.tensor(float(parts), device=parameters[0].device)


@contextmanager
def dividing(optimizer: Any, divisor: Tensor | None) -> Iterator[None]:
    """The optimizer's step inside divides its gradients by that."""
    if divisor is None:
        yield
        return
    optimizer.grad_scale, optimizer.found_inf = divisor, None
    try:
        yield
    finally:
        del optimizer.grad_scale, optimizer.found_inf
