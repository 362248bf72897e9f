"""Gradients in a few contiguous buckets, with the scalars that ride along at the end of the last.

    | gradients of the last layers | ... | gradients of the first layers, riders |

Backward fills them in this order. Riders, one slot each unless said:
loss sum, samples, stop flag, squared norms of the workers' own gradients, whether hooks look at the step, the ranks'
largest magnitudes, presence of each parameter's gradient, floating buffers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Callable, Container

import torch

LOSS, SAMPLES, STOP, SQUARES, HOOKS, LARGEST, PRESENCE = range(7)  # places among the riders; buffers follow presence


@dataclass(eq=False)
class Bucket:
    """One contiguous piece of gradient memory.

    Attributes:
        index: its place in the order of launching.
        flat: all of it, padded with zeros to a multiple of the number of ranks.
        views: parameter number -> its part of `flat`, in the parameter's shape.
        left_at: the version with which it left for the other ranks; None where it may still change.
    """

    index: int
    flat: torch.Tensor
    views: dict[int, torch.Tensor] = field(default_factory=dict)
    left_at: int | None = None

    @property
    def version(self) -> int:
        """Counts what is written by way of the views, and not what sums write to `flat`; 0 where there are none."""
        return next((view._version for view in self.views.values()), 0)

    @cached_property
    def gradients(self) -> torch.Tensor:
        """The part of `flat` that the views make up; without riders and padding."""
        return self.flat[: sum(view.numel() for view in self.views.values())]


@dataclass(eq=False)
class Layout:
    """Buckets in launching order; `riders` is a part of the last one."""

    buckets: list[Bucket]
    riders: torch.Tensor
    bucket_of: dict[int, Bucket]


def lay_out(
    parameters: list[torch.nn.Parameter],
    zeros: Callable[[int, torch.dtype, torch.device], torch.Tensor],
    *,
    bucket_bytes: int,
    extra: int,
    multiple: int,
    alone: bool,
    riders: torch.dtype = torch.float32,
    without: Container[int] = (),
) -> Layout:
    """Deals parameters, last first, to buckets of about `bucket_bytes`.

    Args:
        parameters: in the order of the optimizer.
        zeros: (length, dtype, device) -> a bucket's memory.
        bucket_bytes: a bucket is closed once it holds this much.
        extra: number of rider slots.
        multiple: each bucket's length is rounded up to a multiple of this.
        alone: riders get a bucket of their own instead of the end of the last.
        riders: the narrowest type that they may have.
        without: numbers of parameters that get no place.

    Gradients of parameters below 32 bits are held, and travel, as float32.
    """
    dealt = (i for i in range(len(parameters)) if i not in without)
    order = sorted(dealt, key=lambda i: (_wire_type(parameters[i]).itemsize, -i))
    groups: list[list[int]] = []
    room, kind = 0, None
    for i in order:
        dtype = _wire_type(parameters[i])
        if not groups or room <= 0 or dtype != kind:
            groups.append([])
            room, kind = bucket_bytes, dtype
        groups[-1].append(i)
        room -= parameters[i].numel() * dtype.itemsize
    kinds = [torch.float32, riders, *(() if alone else map(_wire_type, parameters))]
    widest = max(kinds, key=lambda dtype: dtype.itemsize)
    if alone or kind != widest:
        groups.append([])
    buckets, bucket_of = [], {}
    for index, group in enumerate(groups):
        last = index == len(groups) - 1
        dtype = _wire_type(parameters[group[0]]) if group else widest
        device = parameters[(group or [0])[0]].device
        length = sum(parameters[i].numel() for i in group)
        total = length + (extra if last else 0)
        flat = zeros(-(-total // multiple) * multiple, dtype, device)
        bucket, start, memory = Bucket(index, flat), 0, flat.data  # whose version is its own
        for i in group:
            size = parameters[i].numel()
            bucket.views[i] = memory[start : start + size].as_strided(parameters[i].shape, strides_of(parameters[i]))
            bucket_of[i] = bucket
            start += size
        buckets.append(bucket)
    return Layout(buckets, flat[length : length + extra], bucket_of)


def strides_of(parameter: torch.Tensor) -> tuple[int, ...]:
    """Of its gradient in a bucket: the parameter's own, such as channels_last, as far as they leave no gaps."""
    return torch.empty_like(parameter, device="meta").stride()


def _wire_type(parameter: torch.nn.Parameter) -> torch.dtype:
    return parameter.dtype if parameter.dtype.itemsize >= 4 else torch.float32
