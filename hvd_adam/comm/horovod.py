"""World over Horovod: the default engine.

mpi4py opens and closes MPI, Horovod finds it open and leaves it open. Otherwise the first rank that
leaves Python would close MPI under the feet of the slower ones.

Sums on the CPU are `MpiWorld`'s, without Horovod's negotiation, and its background thread is told to look for work
rarely: on one machine they are made in memory that the ranks share, and between machines of equally many ranks, where
those of each machine see each other's memory, by messages of these, unless Horovod is built for GPUs. Elsewhere, and on
a GPU, Horovod's thread makes them.
`HVD_ADAM_SUMS` set to "horovod" sends all of them there, "mpi" those on the CPU to MPI_Allreduce, and "direct" from
rank to rank (hvd-adam bench step shows some).
"""

from __future__ import annotations

import os
from typing import Sequence

import horovod.torch as hvd
import torch

from hvd_adam.comm.launch import sums_by
from hvd_adam.comm.mpi import MpiWorld, travels
from hvd_adam.comm.placement import device_for
from hvd_adam.comm.protocol import Finish, Handle, finished

_IDLE_CYCLE = "100"  # ms between two looks of Horovod's thread for work, where it gets none of ours


class HorovodWorld(MpiWorld):
    """The ranks of a Horovod job."""

    engine = "horovod"

    def __init__(self) -> None:
        super().__init__()
        os.environ.setdefault("HOROVOD_FUSION_THRESHOLD", "0")  # our buckets are whole: fusing would copy them
        on_gpus = any(self._everybodys(bool(hvd.nccl_built())))  # where it looks for work too often to send beside it
        if on_gpus and self._sums in ("direct", "hierarchical") and sums_by(os.environ) != "direct":
            self._sums, self._shared, self._direct = "horovod", None, None
        elif self._sums != "horovod" and not on_gpus:
            os.environ.setdefault("HOROVOD_CYCLE_TIME", _IDLE_CYCLE)
        hvd.init()
        self.local_rank, self.local_size = hvd.local_rank(), hvd.local_size()
        self.device = device_for(self.local_rank, carried=bool(hvd.nccl_built()))

    def start_allreduce(self, tensor: torch.Tensor, name: str, finish: Finish | None = None) -> Handle:
        if self._by_mpi(tensor):
            return super().start_allreduce(tensor, name, finish)
        started = hvd.allreduce_async_(tensor, name=name, op=hvd.Sum)
        return lambda: finished(hvd.synchronize(started), finish)

    def adds_in_order(self, tensor: torch.Tensor) -> bool:
        return (self.size == 1 or self._by_mpi(tensor)) and super().adds_in_order(tensor)

    def takes_changes(self, tensor: torch.Tensor) -> bool:
        return self._by_mpi(tensor) and super().takes_changes(tensor)

    def alltoall(self, tensor: torch.Tensor, send: Sequence[int], receive: Sequence[int], name: str) -> torch.Tensor:
        if self._by_mpi(tensor):
            return super().alltoall(tensor, send, receive, name)
        received, _ = hvd.alltoall(tensor, splits=torch.tensor(send, dtype=torch.int32), name=name)
        return received

    def allgather(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        if self._by_mpi(tensor):
            return super().allgather(tensor, name)
        return hvd.allgather(tensor, name=name)

    def broadcast(self, tensor: torch.Tensor, root: int = 0) -> None:
        if self._by_mpi(tensor):
            super().broadcast(tensor, root)
        else:
            hvd.broadcast_(tensor, root_rank=root, name="broadcast")

    def _end(self) -> None:
        super()._end()
        hvd.shutdown()

    def _by_mpi(self, tensor: torch.Tensor) -> bool:
        return self._sums != "horovod" and travels(tensor)
