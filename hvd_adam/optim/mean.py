"""From the sums over workers to the gradients that the optimizer takes: mean, unscale, clip, decide, step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import optimizer as torchs

from hvd_adam.comm.protocol import Finish, Number, World
from hvd_adam.optim.agreement import refuse_drift
from hvd_adam.optim.buckets import Bucket, Layout
from hvd_adam.optim.divided import DividedStep
from hvd_adam.optim.kept import KeptGradients


class Mean:
    """The last part of a step, the same on every rank.

    Args:
        optimizer: that takes the step.
        parameters: its own, by number.
        layout: buckets that hold the sums over all backward passes of all workers.
        kept: gradients that are in no bucket.
        divided: how the ranks divide the step; None where each takes all of it.
        world: its ranks take the step.
        parts: how many passes those are.
        clip_norm: largest Euclidean norm of the mean; None does not clip.
        must_skip: leaves out a step whose mean is not finite.
        scaler: a GradScaler that the losses went through, or None.
        exact: the norm is added up from each parameter's own, so that it is the same bits in any buckets.
        compared: what the ranks compare every `check_every` steps; 0 never.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[Tensor],
        layout: Layout,
        kept: KeptGradients,
        divided: DividedStep | None,
        world: World,
        *,
        parts: int,
        clip_norm: float | None,
        must_skip: bool,
        scaler: Any,
        exact: bool,
        compared: Sequence[Tensor],
        check_every: int,
    ) -> None:
        self._optimizer, self._parameters, self._layout = optimizer, parameters, layout
        self._kept, self._divided = kept, divided
        self._buckets = [bucket for bucket in layout.buckets if bucket.views]
        self._parts, self._clip_norm = parts, clip_norm
        self._must_skip, self._scaler, self._exact = must_skip, scaler, exact
        self._world, self._compared, self._check_every = world, compared, check_every
        self._checked: int | None = None  # the step under way, where it is one that is checked
        self._hooked = False
        self._squares: dict[int, Sequence[Number]] = {}  # of this step's buckets; of what is in none, at -1

    @property
    def loss_scale(self) -> float:
        """What the gradients of this step are too large by."""
        return 1.0 if self._scaler is None else float(self._scaler.get_scale())

    def begin(self, step: int) -> None:
        """Before the last sum of step >= 1."""
        self._checked = step if self._check_every and step % self._check_every == 0 else None
        if self._divided:
            self._divided.take_in()

    def finish(self, bucket: Bucket) -> Finish:
        """Makes means of a bucket's sums while they lie in the cache, and gives the sum of their squares."""
        return partial(self._finish, bucket.gradients.numel())

    def _finish(self, length: int, part: Tensor, begin: int) -> Number:
        return self._make_means(part if begin + part.numel() <= length else part[: max(0, length - begin)])  # no riders

    def _make_means(self, means: Tensor) -> Number:
        if self._parts > 1:
            means.mul_(1.0 / self._parts)
        return _square(means) if self._scaler is None else 0.0  # which changes them once more

    def arrived(self, bucket: Bucket, square: Number) -> None:
        """Takes what `finish` gave of all of a bucket."""
        self._squares[bucket.index] = [square]

    def arrived_whole(self, bucket: Bucket) -> None:
        """Makes means of all of a bucket's sums at once: a norm of parts would depend on the ranks."""
        if self._parts > 1:
            bucket.gradients.mul_(1.0 / self._parts)
        if self._scaler is None:
            self._measure(bucket)

    def _measure(self, bucket: Bucket) -> None:
        if self._exact and bucket.views:
            norms = torch._foreach_norm(list(bucket.views.values()))
            self._squares[bucket.index] = torch.stack(norms).double().square().tolist()
        else:
            self._squares[bucket.index] = [_square(bucket.gradients)]

    def add_kept(self, present: set[int]) -> None:
        """A collective call, once all buckets are here: sums the gradients that are in none."""
        if self._kept:
            self._squares[-1] = [self._kept.add(present, self._make_means)]

    def take(self, present: set[int], hooked: bool) -> tuple[float, bool]:
        """Makes the gradients of the parameters in `present`; returns the mean's norm, and whether to skip the step.

        Args:
            hooked: hooks of some rank look at this step; a collective call then.

        Raises:
            RunError: ranks that divide the step have drifted apart.
        """
        if self._checked and self._divided:
            self._divided.check(f"before step {self._checked}")
        if self._scaler is not None:
            self._hand_over(present)
            self._scaler.unscale_(self._optimizer)
            for bucket in self._buckets:
                self._measure(bucket)
        norm = math.sqrt(sum(float(square) for squares in self._squares.values() for square in squares))
        skipped = self._must_skip and not math.isfinite(norm)
        if self._clip_norm is not None and not skipped and norm > self._clip_norm:
            for bucket in self._buckets:
                bucket.gradients.mul_(self._clip_norm / norm)
            self._kept.scale(self._clip_norm / norm)
        self._hooked = hooked
        if hooked and self._kept:
            self._kept.show()
        self._hand_over(present)
        return norm, skipped

    def step(self, skipped: bool) -> None:
        """The optimizer's step, unless it is to be left out; a scaler learns of it either way.

        Raises:
            RunError: ranks have drifted apart.
        """
        if not skipped:
            with self._divided.among_ranks(self._hooked) if self._divided else nullcontext():
                self._optimizer.step() if self._scaler is None else self._scaler.step(self._optimizer)
        self._kept.leave()
        if self._scaler is not None:
            self._scaler.update()
        if self._checked and not skipped:
            refuse_drift(self._world, self._compared, when=f"after {self._checked} steps")

    def _hand_over(self, present: set[int]) -> None:
        """Makes the gradients the parameters' own; those that are missing everywhere stay so."""
        for number, parameter in enumerate(self._parameters):
            kept = number in self._kept
            view = self._kept.gradient(number) if kept else self._layout.bucket_of[number].views[number]
            parameter.grad = view.to(parameter.dtype) if number in present else None


def has_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Whether something looks at its steps, before or after."""
    own = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
    return any((*own, torchs._global_optimizer_pre_hooks, torchs._global_optimizer_post_hooks))


def _square(numbers: Tensor) -> Number:
    norm = torch.linalg.vector_norm(numbers).double()
    norm = norm.item() if numbers.device.type == "cpu" else norm
    return norm * norm
