"""Buffers of a model, such as batch norm's running statistics, over the workers of a step.

Each worker starts from the step's old values; floating buffers become the mean over workers, integer
counters advance once a step. A module may set a new tensor in place of a buffer: it is taken into the old one.
A buffer that no worker has changed keeps its bits: a mean over six would not, and a sum over two of -3e38 is -inf.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hvd_adam.optim.refusals import refuse_other_buffer


class ModuleBuffers:
    """The state of `model` that is not a parameter; of nothing where model is None.

    Args:
        workers, passes: so many workers change it in a step, in so many passes each.

    Attributes:
        size: numbers that ride along: by how many workers each floating buffer was changed, then all that these hold.
        widest: the buffers' widest type; None where there are none.
    """

    def __init__(self, model: torch.nn.Module | None, workers: int = 1, passes: int = 1) -> None:
        buffers = list(model.buffers()) if model is not None else []
        self._places = list(_places(model)) if model is not None else []
        self._floating = [b for b in buffers if b.is_floating_point()]
        self._counters = [b for b in buffers if not b.is_floating_point()]
        self._all = [*self._floating, *self._counters]
        self._old = [b.clone() for b in self._all]
        self._sizes = [b.numel() for b in self._floating]
        self.size = len(self._sizes) + sum(self._sizes)
        self._workers, self._passes = workers, passes
        self._share = 0.5 ** (workers - 1).bit_length()  # of each: exact, and the largest number's sum is a number
        self.widest = max((b.dtype for b in self._floating), key=lambda dtype: dtype.itemsize, default=None)

    def keep(self) -> None:
        """Remembers the values that each worker of the coming step starts from."""
        self._settle()
        if self._all:
            torch._foreach_copy_(self._old, self._all)

    def rewind(self) -> None:
        """Back to the step's old values, for the next worker."""
        self._settle()
        if self._all:
            torch._foreach_copy_(self._all, self._old)

    def write(self, riders: Tensor) -> None:
        """Puts this worker's floating buffers among its riders."""
        self._settle()
        if self._floating:
            changed = [not torch.equal(now, old) for now, old in zip(self._floating, self._old, strict=False)]
            riders[: len(changed)] = torch.tensor(changed, dtype=riders.dtype)
            torch.cat([b.reshape(-1) for b in self._floating], out=riders[len(changed) :]).mul_(self._share)

    def take_mean(self, riders: Tensor) -> None:
        """Takes the mean over workers from the summed riders; counters, which each pass has advanced, advance once."""
        changed, sums = riders.tensor_split([len(self._floating)])
        means = zip(self._floating, (sums / (self._share * self._workers)).split(self._sizes), strict=True)
        new = [(b, mean.view(b.shape)) for count, (b, mean) in zip(changed.tolist(), means, strict=True) if count]
        if new:
            torch._foreach_copy_([buffer for buffer, _ in new], [mean for _, mean in new])
        if self._passes > 1:
            for counter, old in zip(self._counters, self._old[len(self._floating) :], strict=True):
                if counter.dtype != torch.bool and not counter.is_complex():
                    counter.copy_(old + (counter - old) // self._passes)

    def _settle(self) -> None:
        """What a module has set in place of a buffer goes into the buffer, and the buffer back to its place."""
        for module, name, buffer in self._places:
            now = module._buffers.get(name)
            if now is buffer:
                continue
            if now is not None and (now.shape, now.dtype, now.device) == (buffer.shape, buffer.dtype, buffer.device):
                buffer.copy_(now.detach())
                module._buffers[name] = buffer
            elif name not in module._non_persistent_buffers_set:  # a cache may grow, and is the module's own then
                refuse_other_buffer(name, buffer, now)


def _places(model: torch.nn.Module) -> Iterator[tuple[torch.nn.Module, str, Tensor]]:
    """Of each buffer what holds it, and by which name; a compiled module's cannot be set anew."""
    for module in model.modules():
        if isinstance(module._buffers, dict):
            yield from ((module, name, one) for name, one in module._buffers.items() if one is not None)
