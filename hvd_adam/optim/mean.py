"""From the sums over workers to the gradients that the optimizer takes: mean, unscale, clip, decide, step.

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

from hvd_adam.optim.buckets import Bucket, Layout

_WHOLE = 2**24  # up to here float32, which grad_scale is, holds every whole number


class Mean:
    """The last part of a step, the same on every rank.

    Args:
        optimizer: that takes the step.
        parameters: its own, by number.
        layout: buckets that hold the sums over all backward passes of all workers.
        parts: how many passes those are.
        clip_norm: largest Euclidean norm of the mean; None does not clip.
        must_skip: leaves out a step whose mean is not finite.
        scaler: a GradScaler that the losses went through, or None.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[Tensor],
        layout: Layout,
        *,
        parts: int,
        clip_norm: float | None,
        must_skip: bool,
        scaler: Any,
    ) -> None:
        self._optimizer, self._parameters, self._layout = optimizer, parameters, layout
        self._buckets = [bucket for bucket in layout.buckets if bucket.views]
        self._parts, self._clip_norm = parts, clip_norm
        self._must_skip, self._scaler = must_skip, scaler
        foldable = 1 < parts <= _WHOLE and scaler is None and all(p.dtype.itemsize >= 4 for p in parameters)
        self._divisor = torch.tensor(float(parts), device=parameters[0].device) if foldable else None
        self._left_to_step = False
        self._norms: dict[int, Tensor] = {}  # of this step's buckets

    def arrived(self, bucket: Bucket) -> None:
        """Takes the norm of a bucket's sums, which were written just now, and lie in the processor's cache."""
        if bucket.views and self._scaler is None:  # which changes them once more
            self._take_norm(bucket)

    def _take_norm(self, bucket: Bucket) -> None:
        self._norms[bucket.index] = torch.linalg.vector_norm(bucket.gradients)

    def take(self, present: set[int]) -> tuple[float, bool]:
        """Makes the gradients of the parameters in `present`; returns the mean's norm, and whether to skip the step."""
        parts: float = self._parts
        if self._scaler is not None:
            self._divide(parts)
            parts = 1
            self._hand_over(present)
            self._scaler.unscale_(self._optimizer)
            for bucket in self._buckets:
                self._take_norm(bucket)
        norm = self._norm() / parts
        skipped = self._must_skip and not math.isfinite(norm)
        if self._clip_norm is not None and not skipped and norm > self._clip_norm:
            self._divide(parts * norm / self._clip_norm)
            parts = 1
        self._left_to_step = parts > 1 and self._step_divides()
        if not self._left_to_step:
            self._divide(parts)
        self._hand_over(present)
        return norm, skipped

    def step(self, skipped: bool) -> None:
        """The optimizer's step, unless it is to be left out; a scaler learns of it either way."""
        if not skipped:
            with self._dividing():
                self._optimizer.step() if self._scaler is None else self._scaler.step(self._optimizer)
        if self._scaler is not None:
            self._scaler.update()

    def _norm(self) -> float:
        """Of all sums; those that nobody has are zeros."""
        norms = [float(self._norms[bucket.index]) for bucket in self._buckets]
        return math.sqrt(sum(norm * norm for norm in norms))

    def _divide(self, by: float) -> None:
        if by != 1:
            for bucket in self._buckets:
                bucket.gradients.mul_(1.0 / by)

    def _hand_over(self, present: set[int]) -> None:
        """Makes the gradients the parameters' own; those that are missing everywhere stay so."""
        for number, parameter in enumerate(self._parameters):
            view = self._layout.bucket_of[number].views[number]
            parameter.grad = view.to(parameter.dtype) if number in present else None

    def _step_divides(self) -> bool:
        """Whether the optimizer's step can divide by the parts, and nobody looks before it does."""
        fused = getattr(self._optimizer, "_step_supports_amp_scaling", False)
        return self._divisor is not None and fused and not self._optimizer._optimizer_step_pre_hooks

    @contextmanager
    def _dividing(self) -> Iterator[None]:
        if not self._left_to_step:
            yield
            return
        optimizer: Any = self._optimizer
        optimizer.grad_scale, optimizer.found_inf = self._divisor, None
        try:
            yield
        finally:
            del optimizer.grad_scale, optimizer.found_inf
