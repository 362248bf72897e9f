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
        self.size = sum(b.numel() for b in self._floating)
        self.keep()

    def keep(self) -> None:
        """Remembers the values that each worker of the coming step starts from."""
        self._old = [b.clone() for b in (*self._floating, *self._counters)]

    def rewind(self) -> None:
        """Back to the step's old values, for the next worker."""
        for buffer, old in zip((*self._floating, *self._counters), self._old, strict=True):
            buffer.copy_(old)

    def write(self, riders: Tensor) -> None:
        """Puts this worker's floating buffers among its riders."""
        if self._floating:
            torch.cat([b.reshape(-1) for b in self._floating], out=riders)

    def take_mean(self, riders: Tensor, workers: int, passes: int) -> None:
        """Takes the mean over workers from the summed riders; counters, which `passes` have advanced, advance once."""
        start = 0
        for buffer in self._floating:
            buffer.copy_((riders[start : start + buffer.numel()] / workers).view(buffer.shape))
            start += buffer.numel()
        if passes > 1:
            for counter, old in zip(self._counters, self._old[len(self._floating) :], strict=True):
                if counter.dtype != torch.bool:
                    counter.copy_(old + (counter - old) // passes)
