"""Half precision on the wire: gradients travel as fp16, and are held and used as they are.

They are scaled by `scale / parts` first. Where their sum overflows, all ranks see that it is not finite, and leave the
step out. Each rank's largest magnitude rides along as float32: where these are finite, the wire alone is at fault, and
the scale is halved until a sum of such gradients fits. After `PATIENCE` good steps it is doubled again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hvd_adam.optim.buckets import Bucket

PATIENCE = 1000
START, LARGEST = 2.0**10, 2.0**16
FITS = 2.0**15  # half of what fp16 holds: a sum of less does not overflow, however a thousand additions round


class HalfWire:
    """fp16 twins of the buckets, one of each.

    Args:
        zeros: makes memory for sums; see `World.zeros`.
        parts: on all ranks together, so many gradients are summed.
    """

    def __init__(
        self, buckets: list[Bucket], zeros: Callable[[int, torch.dtype, torch.device], Tensor], parts: int
    ) -> None:
        self._twins = {b.index: zeros(b.flat.numel(), torch.float16, b.flat.device) for b in buckets}
        self._parts = parts
        self._largest: list[Tensor] = []
        self.scale = START
        self._good = 0

    def pack(self, bucket: Bucket) -> Tensor:
        """The bucket as it travels."""
        if bucket.flat.numel():
            least, most = torch.aminmax(bucket.flat)
            self._largest.append(torch.maximum(-least, most).double())
        return self._twins[bucket.index].copy_(bucket.flat * (self.scale / self._parts))

    def unpack(self, bucket: Bucket) -> None:
        """Puts the travelled sum back into the bucket."""
        bucket.flat.copy_(self._twins[bucket.index]).mul_(self._parts / self.scale)

    def largest(self) -> Tensor | float:
        """The largest magnitude that was packed since this was asked last; nan where one was."""
        packed, self._largest = self._largest, []
        return torch.stack(packed).amax() if packed else 0.0

    def learn(self, skipped: bool, largest: float) -> bool:
        """Adapts the scale to what the last sum came to; says whether the step was left out for the wire's sake alone.

        Args:
            largest: all ranks' `largest`, summed: no number of the gradients' sum is larger.
        """
        overflowed = skipped and FITS <= largest / self._parts * self.scale < math.inf
        while overflowed and largest / self._parts * self.scale >= FITS:
            self.scale /= 2
        self._good = 0 if skipped else self._good + 1
        if self._good and self._good % PATIENCE == 0:
            self.scale = min(LARGEST, self.scale * 2)
        return overflowed

    def state(self) -> dict[str, float]:
        """What a restart must know."""
        return {"scale": self.scale, "good": self._good}

    def load(self, state: dict[str, float]) -> None:
        """Takes over what `state` gave."""
        self.scale, self._good = state["scale"], int(state["good"])
