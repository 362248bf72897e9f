"""World over Horovod: the default engine.

mpi4py opens and closes MPI, Horovod finds it open and leaves it open. Otherwise the first rank that
leaves Python would close MPI under the feet of the slower ones.
"""

from __future__ import annotations

import os
from typing import Any, Sequence

import horovod.torch as hvd
import torch

from hvd_adam.comm.mpi import MpiWorld
from hvd_adam.comm.placement import device_for


class HorovodWorld(MpiWorld):
    """The ranks of a Horovod job; sums go on in Horovod's background thread."""

    engine = "horovod"

    def __init__(self) -> None:
        super().__init__()
        os.environ.setdefault("HOROVOD_FUSION_THRESHOLD", "0")  # our buckets are whole: fusing would copy them
        hvd.init()
        self.local_rank, self.local_size = hvd.local_rank(), hvd.local_size()
        self.device = device_for(self.local_rank, carried=bool(hvd.nccl_built()))

    def start_allreduce(self, tensor: torch.Tensor, name: str) -> Any:
        return hvd.allreduce_async_(tensor, name=name, op=hvd.Sum)

    def wait(self, handle: Any) -> None:
        hvd.synchronize(handle)

    def alltoall(self, tensor: torch.Tensor, send: Sequence[int], receive: Sequence[int], name: str) -> torch.Tensor:
        received, _ = hvd.alltoall(tensor, splits=torch.tensor(send, dtype=torch.int32), name=name)
        return received

    def allgather(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        return hvd.allgather(tensor, name=name)

    def broadcast(self, tensor: torch.Tensor, root: int = 0) -> None:
        hvd.broadcast_(tensor, root_rank=root, name="broadcast")

    def close(self) -> None:
        super().close()
        hvd.shutdown()
