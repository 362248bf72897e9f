"""One rank, no engine: what a run without a launcher gets."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import Sequence

import torch

from hvd_adam.comm.placement import device_for
from hvd_adam.comm.protocol import Finish, Handle, Number, Seen, finished


class SoloWorld:
    """A world of one rank. Sums are what they were."""

    engine = "solo"
    rank = local_rank = 0
    size = local_size = 1

    def __init__(self) -> None:
        self.host = socket.gethostname()
        self.device = device_for(self.local_rank)

    def zeros(self, length: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return torch.zeros(length, dtype=dtype, device=device)

    def seen(self, size: int) -> Seen | None:
        return None

    def meet(self) -> None:
        pass

    def start_allreduce(self, tensor: torch.Tensor, name: str, finish: Finish | None = None) -> Handle:
        return partial(finished, tensor, finish)

    def adds_in_order(self, tensor: torch.Tensor) -> bool:
        return True

    def takes_changes(self, tensor: torch.Tensor) -> bool:
        return True

    def progress(self) -> None:
        pass

    def wait(self, handle: Handle) -> Number:
        return handle()

    def alltoall(self, tensor: torch.Tensor, send: Sequence[int], receive: Sequence[int], name: str) -> torch.Tensor:
        return tensor

    def allgather(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        return tensor

    def broadcast(self, tensor: torch.Tensor, root: int = 0) -> None:
        pass

    def allgather_bytes(self, content: bytes) -> list[bytes]:
        return [content]

    def barrier(self) -> None:
        pass

    def abort(self, code: int) -> None:
        os._exit(code)

    def close(self) -> None:
        pass
