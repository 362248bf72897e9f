"""World over mpi4py: the second engine, and the oracle in the tests of the first."""

from __future__ import annotations

import os
import socket
import sys
from functools import partial
from typing import Any, Sequence

import numpy as np
import torch

from hvd_adam.comm.launch import sums_by, way_of_sums
from hvd_adam.comm.mpi_home import name_mpi_home, yield_while_idle
from hvd_adam.comm.placement import device_for
from hvd_adam.comm.protocol import Finish, Handle, Number, Seen, finished

name_mpi_home()  # the import below opens MPI
yield_while_idle()

from mpi4py import MPI  # noqa: E402

from hvd_adam.comm.direct import DirectSums  # noqa: E402
from hvd_adam.comm.farewell import Farewell  # noqa: E402
from hvd_adam.comm.hierarchical import HierarchicalSums  # noqa: E402
from hvd_adam.comm.shared import SharedSums, seen, shares_memory  # noqa: E402

_MPI_TYPES = {
    torch.float32: MPI.FLOAT,
    torch.float64: MPI.DOUBLE,
    torch.int64: MPI.INT64_T,
    torch.int32: MPI.INT32_T,
    torch.uint8: MPI.BYTE,
    torch.float16: MPI.UINT16_T,  # MPI has no half type: the bits travel as integers, the sum below reads them
}


def carries(dtype: torch.dtype) -> bool:
    """Whether tensors of this kind travel over MPI."""
    return dtype in _MPI_TYPES


def travels(tensor: torch.Tensor) -> bool:
    """Whether MPI takes this tensor from where it lies."""
    return tensor.device.type == "cpu" and carries(tensor.dtype)


def _add_halves(left: Any, right: Any, datatype: MPI.Datatype) -> None:
    total = np.frombuffer(right, dtype=np.float16)
    np.add(np.frombuffer(left, dtype=np.float16), total, out=total)


class MpiWorld:
    """The ranks of MPI_COMM_WORLD.

    Sums on the CPU of memory that `zeros` gave on one machine are `SharedSums`', between machines of equally many ranks
    `HierarchicalSums`', and between machines of one rank each `DirectSums`' of any memory. Others are one blocking
    MPI_Allreduce, made when they are started. `HVD_ADAM_SUMS` decides otherwise: but for "shared" there is no memory
    either that ranks of any machine see together.
    """

    engine = "mpi"

    def __init__(self) -> None:
        self._comm = MPI.COMM_WORLD
        self.rank = self._comm.Get_rank()
        self.size = self._comm.Get_size()
        self._here = of_this_machine(self._comm)
        self.local_rank, self.local_size = self._here.Get_rank(), self._here.Get_size()
        self.host = socket.gethostname()
        self.device = device_for(self.local_rank)  # sums pass through the host's memory
        self._half_sum = MPI.Op.Create(_add_halves, commute=True)
        self._farewell = Farewell(self._comm, self.host)
        asked = set(self._comm.allgather(sums_by(os.environ)))
        wish = asked.pop() if len(asked) == 1 else "horovod"
        way = way_of_sums(wish, self._comm.allgather(self.local_size))
        hear = all(self._comm.allgather(self._farewell.hears))  # else one that leaves early would be waited for
        self._sums = way if hear else "horovod"
        can = wish == "shared" and shares_memory() and self.local_size > 1
        self._sees = any(self._comm.allgather(can))
        if self._sums == "hierarchical" and self.seen(1) is None:  # MPI_Allreduce would stop backward
            self._sums = "horovod"
        self._shared = self._sums_in_memory() if can else None
        self._direct = DirectSums(self._comm.Dup(), self._farewell.call) if self._sums == "direct" else None

    def _sums_in_memory(self) -> SharedSums | None:
        local, call = partial(self._everybodys, among=self._here), self._farewell.call
        if self._sums == "shared":
            return SharedSums(local, self.local_rank, call)
        if self._sums == "hierarchical":
            across = DirectSums(self._comm.Split(self.local_rank, self.rank), call)
            return HierarchicalSums(
                local, self._everybodys, self.local_rank, across, call, self._is_laid_out_in_order()
            )
        return None

    def _is_laid_out_in_order(self) -> bool:
        """Whether the tree over ranks is one over each machine's and one over machines; machines of equally many."""
        first, many = self.rank - self.local_rank, self.local_size
        follow = self._here.allgather(self.rank) == list(range(first, first + many))
        return all(self._everybodys(follow)) and many.bit_count() == 1

    def zeros(self, length: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        shared = self._shared.zeros(length, dtype) if self._shared and length and device.type == "cpu" else None
        return torch.zeros(length, dtype=dtype, device=device) if shared is None else shared

    def seen(self, size: int) -> Seen | None:
        if not self._sees:
            return None
        memory = seen(size if shares_memory() else 0, partial(self._everybodys, among=self._here))
        everywhere = all(self._everybodys(memory is not None))
        return Seen(memory, self._here.Get_rank()) if memory and everywhere else None

    def meet(self) -> None:
        with self._farewell.call():
            self._here.Barrier()

    def start_allreduce(self, tensor: torch.Tensor, name: str, finish: Finish | None = None) -> Handle:
        if self._shared and self._shared.holds(tensor):
            return self._shared.start(tensor, finish)
        if self._direct and self.size > 1 and travels(tensor):
            return partial(self._direct.wait, self._direct.start(tensor, finish))
        if self.size == 1:  # which may yet change its own
            return partial(finished, tensor, finish)
        on_host = tensor.cpu()
        operation = self._half_sum if tensor.dtype == torch.float16 else MPI.SUM
        with self._farewell.call():
            self._comm.Allreduce(MPI.IN_PLACE, _buffer(on_host), op=operation)
        if on_host is not tensor:
            tensor.copy_(on_host)
        made = finished(tensor, finish)
        return lambda: made

    def adds_in_order(self, tensor: torch.Tensor) -> bool:
        if self._shared and self._shared.holds(tensor):
            return self._shared.in_order
        return self.size == 1 or (self._direct is not None and travels(tensor))

    def takes_changes(self, tensor: torch.Tensor) -> bool:
        if self._shared and self._shared.holds(tensor):
            return self._shared.takes_changes
        return self.size == 1

    def progress(self) -> None:
        for sums in (self._shared, self._direct):
            if sums:
                sums.progress()

    def wait(self, handle: Handle) -> Number:
        return handle()

    def alltoall(self, tensor: torch.Tensor, send: Sequence[int], receive: Sequence[int], name: str) -> torch.Tensor:
        on_host = tensor.cpu()
        received = torch.empty(sum(receive), dtype=tensor.dtype)
        with self._farewell.call():
            self._comm.Alltoallv(_parts(on_host, send), _parts(received, receive))
        return received.to(tensor.device)

    def allgather(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        on_host = tensor.cpu()
        gathered = torch.empty(self.size * tensor.numel(), dtype=tensor.dtype)
        with self._farewell.call():
            self._comm.Allgather(_buffer(on_host), _buffer(gathered))
        return gathered.to(tensor.device)

    def broadcast(self, tensor: torch.Tensor, root: int = 0) -> None:
        on_host = tensor.cpu()
        with self._farewell.call():
            self._comm.Bcast(_buffer(on_host), root=root)
        if on_host is not tensor:
            tensor.copy_(on_host)

    def allgather_bytes(self, content: bytes) -> list[bytes]:
        return self._everybodys(content)

    def _everybodys(self, value: Any, among: MPI.Comm | None = None) -> list[Any]:
        with self._farewell.call():
            return (among or self._comm).allgather(value)

    def barrier(self) -> None:
        with self._farewell.call():
            self._comm.Barrier()

    def abort(self, code: int) -> None:
        self._comm.Abort(code)

    def close(self) -> None:
        if sys.exc_info()[0] is None:  # else they would wait here and there for each other; an exception ends them all
            self._end()

    def _end(self) -> None:
        self.barrier()
        self._farewell.stop()


def of_this_machine(comm: MPI.Comm) -> MPI.Comm:
    """A collective call: the ranks of this machine, in the same order."""
    return comm.Split_type(MPI.COMM_TYPE_SHARED)


def _buffer(tensor: torch.Tensor) -> list[Any]:
    if not carries(tensor.dtype):
        raise TypeError(f"{tensor.dtype} does not travel over MPI")
    array = tensor.view(torch.int16).numpy() if tensor.dtype == torch.float16 else tensor.numpy()
    return [array, _MPI_TYPES[tensor.dtype]]


def _parts(tensor: torch.Tensor, counts: Sequence[int]) -> list[Any]:
    array, kind = _buffer(tensor)
    starts = [sum(counts[:rank]) for rank in range(len(counts))]
    return [array, (list(counts), starts), kind]
