"""World: the collectives, and the only door to a communication engine.

Every rank makes the same calls in the same order. All sums are in place. Tensors are contiguous.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Protocol, Sequence

import torch

Number = float | torch.Tensor  # a tensor of one element, where it lies on a GPU that need not be waited for
Finish = Callable[[torch.Tensor, int], Number]
Handle = Callable[[], Number]


def finished(tensor: torch.Tensor, finish: Finish | None) -> Number:
    """What `finish` gives on all of a sum."""
    return finish(tensor, 0) if finish else 0.0


class Seen(NamedTuple):
    """Bytes of each rank of a machine, in one order on all of them, and which are this rank's own."""

    everyones: list[torch.Tensor]
    own: int


class World(Protocol):
    """The ranks of one job.

    Attributes:
        engine: "horovod", "mpi" or "solo".
        rank, size: this rank's number, and how many ranks there are.
        local_rank, local_size: the same among the ranks of this host.
        host: this host's name.
        device: where this rank computes: a GPU of its own where there are some and the engine takes their tensors.
    """

    engine: str
    rank: int
    size: int
    local_rank: int
    local_size: int
    host: str
    device: torch.device

    def zeros(self, length: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """A collective call: one-dimensional memory for sums, which are fastest where a tensor is all of it."""

    def seen(self, size: int) -> Seen | None:
        """A collective call: memory that the ranks of each machine read and write together; zeros at first.

        Args:
            size: bytes; 0 where this rank wants none, and then nobody has any.

        Returns None on all ranks where some do not see each other's, or no machine has more than one.
        """

    def meet(self) -> None:
        """Returns when every rank of this machine has called it: what they wrote before is there."""

    def start_allreduce(self, tensor: torch.Tensor, name: str, finish: Finish | None = None) -> Handle:
        """Starts the sum of `tensor` over all ranks, in place; returns what `wait` takes.

        Args:
            tensor: nobody changes it until `wait` has returned, but where it `takes_changes`.
            name: the same on all ranks, and another for every sum under way.
            finish: (part, begin) -> a number. Changes parts of the sum in place, each of them once, beginning at
                that element; depends on nothing but the part. What comes of it is the sum.
        """

    def adds_in_order(self, tensor: torch.Tensor) -> bool:
        """Whether its sums add the ranks' numbers in the order of `comm.order`; the same answer on all ranks."""

    def takes_changes(self, tensor: torch.Tensor) -> bool:
        """Whether a sum that was started of it takes what this rank changes until it is waited for."""

    def progress(self) -> None:
        """Called often between the start of a sum and its end: some go on only then."""

    def wait(self, handle: Handle) -> Number:
        """Returns what `finish` gave, the same on all ranks, when the sum behind `handle` stands in its tensor."""

    def alltoall(self, tensor: torch.Tensor, send: Sequence[int], receive: Sequence[int], name: str) -> torch.Tensor:
        """Sends `send[r]` elements to each rank r; returns `receive[r]` elements from each, by rank."""

    def allgather(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        """The one-dimensional tensors of all ranks, of equal length, one after the other."""

    def broadcast(self, tensor: torch.Tensor, root: int = 0) -> None:
        """Copies the root's tensor over everybody's, in place."""

    def allgather_bytes(self, content: bytes) -> list[bytes]:
        """Everybody's bytes, by rank; lengths may differ."""

    def barrier(self) -> None:
        """Returns when every rank has called it."""

    def abort(self, code: int) -> None:
        """Ends every rank of the job at once; does not return."""

    def close(self) -> None:
        """Leaves the job in good order; the last call on a World.

        Does nothing inside of `except`, nor of a `finally` or a `with` that an exception runs through: the others may
        be in another call, and hear that this rank has left.
        """
