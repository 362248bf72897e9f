"""Buffers of a model, such as batch norm's running statistics, over the workers of a step.

Each worker starts from the step's old values; floating buffers become the mean over workers, integer
counters advance once a step.
"""

from __future__ import annotations

import torch
from torch import Tensor


class ModuleBuffers:
    """The persistent state of `model` that is not a parameter; of nothing where model is None."""

    def __init__(self, model: torch.nn.Module | None) -> None:
        buffers = list(model.buffers()) if model is not None else []
        self._floating = [b for b in buffers if b.is_floating_point()]
        self._counters = [b for b in buffers if not b.is_floating_point()]
        self._all = [*self._floating, *self._counters]
        self._old = [b.clone() for b in self._all]
        self.size = sum(b.numel() for b in self._floating)

    def keep(self) -> None:
        """Remembers the values that each worker of the coming step starts from."""
        if self._all:
            torch._foreach_copy_(self._old, self._all)

    def rewind(self) -> None:
        """Back to the step's old values, for the next worker."""
        if self._all:
            torch._foreach_copy_(self._all, self._old)

    def write(self, riders: Tensor) -> None:
        """Puts this worker's floating buffers among its riders."""
        if self._floating:
            torch.cat([b.reshape(-1) for b in self._floating], out=riders)

    def take_mean(self, riders: Tensor, workers: int, passes: int) -> None:
        """Takes the mean over workers from the summed riders; counters, which `passes` have advanced, advance once."""
        if self._floating:
            means = (riders / workers).split([b.numel() for b in self._floating])
            torch._foreach_copy_(
                self._floating, [mean.view(b.shape) for mean, b in zip(means, self._floating, strict=True)]
            )
        if passes > 1:
            for counter, old in zip(self._counters, self._old[len(self._floating) :], strict=True):
                if counter.dtype != torch.bool:
                    counter.copy_(old + (counter - old) // passes)
