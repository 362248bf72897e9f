"""Half precision on the wire: gradients travel as fp16, and are held and used as they are.

They are scaled by `scale / workers` first, so that the sum of finite parts that fit cannot overflow.
Where it overflows all the same, all ranks see a sum that is not finite: the step is left out and the
scale halved; after `PATIENCE` good steps it is doubled again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hvd_adam.optim.buckets import Bucket

PATIENCE = 1000
START, LARGEST = 2.0**10, 2.0**16


class HalfWire:
    """fp16 twins of the buckets, one of each.

    Args:
        zeros: makes memory for sums; see `World.zeros`.
    """

    def __init__(self, buckets: list[Bucket], zeros: Callable[[int, torch.dtype, torch.device], Tensor]) -> None:
        self._twins = {b.index: zeros(b.flat.numel(), torch.float16, b.flat.device) for b in buckets}
        self.scale = START
        self._good = 0

    def pack(self, bucket: Bucket, parts: int) -> Tensor:
        """The bucket as it travels: a sum of `parts` gradients on all ranks together."""
        return self._twins[bucket.index].copy_(bucket.flat * (self.scale / parts))

    def unpack(self, bucket: Bucket, parts: int) -> None:
        """Puts the travelled sum back into the bucket."""
        bucket.flat.copy_(self._twins[bucket.index]).mul_(parts / self.scale)

    def learn(self, overflowed: bool) -> None:
        """Adapts the scale to what the last sum came to."""
        self._good = 0 if overflowed else self._good + 1
        if overflowed:
            self.scale = max(1.0, self.scale / 2)
        elif self._good % PATIENCE == 0:
            self.scale = min(LARGEST, self.scale * 2)

    def state(self) -> dict[str, float]:
        """What a restart must know."""
        return {"scale": self.scale, "good": self._good}

    def load(self, state: dict[str, float]) -> None:
        """Takes over what `state` gave."""
        self.scale, self._good = state["scale"], int(state["good"])
