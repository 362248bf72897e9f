"""The squared norm of each worker's own gradient, before it is lost in the sum: what the noise scale needs."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from hvd_adam.optim.buckets import Layout


class OwnGradients:
    """Takes a worker's gradient out of buckets that hold the sum of this rank's workers so far.

    Costs one copy of the gradients while it is in use, and nothing otherwise.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._before: dict[int, Tensor] = {}

    def square(self, touched: Collection[int]) -> Tensor:
        """||g_w||^2 of the worker whose gradients were added last, a float64 scalar.

        Args:
            touched: numbers of the parameters that this worker has a gradient of.
        """
        norms = [torch.linalg.vector_norm(self._own(number)).double() for number in sorted(touched)]
        return torch.stack(norms).square().sum() if norms else torch.zeros((), dtype=torch.float64)

    def remember(self, filled: Collection[int]) -> None:
        """Keeps the sums as they stand between two workers; `filled` has the numbers that hold one."""
        self._before = {number: self._view(number).clone() for number in filled}

    def forget(self) -> None:
        """Starts a step: no worker has added anything yet."""
        self._before = {}

    def _own(self, number: int) -> Tensor:
        before = self._before.get(number)
        return self._view(number) if before is None else self._view(number) - before

    def _view(self, number: int) -> Tensor:
        return self._layout.bucket_of[number].views[number]
