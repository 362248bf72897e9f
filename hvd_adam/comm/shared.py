"""Sums between ranks of one machine, in memory that all of them see.

Every rank holds its own tensor of a sum, and sums one part of it over all ranks: it reads that part of everybody's,
and writes the sum back to everybody's. Starting a sum costs nothing, and a rank may still change its own numbers until
it waits for a sum: then it hands over all that it has started.

The memory is a file without a name, which other ranks open by its owner's /proc: it is in nobody's way, has no size
to exceed but the machine's, and is gone with the last rank, however that ends.
"""

from __future__ import annotations

import os
import platform
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from hvd_adam.comm.order import add_all
from hvd_adam.comm.protocol import Finish

_HEAD = 4096  # bytes before the numbers: a token, two counters, and what `finish` gave
_TOKEN, HANDED, DONE, GIVEN = 0, 8, 16, 24  # places of words of 8 bytes in the head: a cache line each
_LINE = 64  # bytes of a cache line: where parts begin
_CACHED = 1 << 19  # bytes that are summed and written back before the next: they stay in a core's own cache


class Piece(NamedTuple):
    """Of one tensor of every rank the same elements: where they begin, everybody's by rank, and this one's number."""

    begin: int
    everyones: list[torch.Tensor]
    rank: int

    @property
    def own(self) -> torch.Tensor:
        """This rank's."""
        return self.everyones[self.rank]

    def add(self) -> None:
        """Adds the others' to this rank's own."""
        add_all(self.everyones, self.rank)

    def write_back(self) -> None:
        """Writes this rank's own over the others'."""
        for number, other in enumerate(self.everyones):
            if number != self.rank:
                other.copy_(self.own)


@dataclass(eq=False)
class Shared:
    """One tensor of every rank, in the same order of elements.

    Attributes:
        rank: this one's number.
        own: this rank's tensor.
        heads: of all ranks; each holds that rank's counters.
        given: of all ranks, what `finish` gave on the parts that they summed.
        pieces: this rank's part of all tensors, a piece after the other.
        round: how many sums have been started in it.
        summed: how many of them this rank has done its part of.
        finish: of the one under way.
    """

    rank: int
    own: torch.Tensor
    heads: list[memoryview[int]]
    given: list[memoryview[float]]
    pieces: list[Piece]
    round: int = 0
    summed: int = 0
    finish: Finish | None = None

    def all_at(self, place: int) -> bool:
        """Whether that counter of all ranks has come to the last sum."""
        return all(head[place] >= self.round for head in self.heads)

    def total(self) -> float:
        """What `finish` gave on all parts; in one order, so that it is the same on all ranks."""
        return sum(given[GIVEN] for given in self.given)

    def add(self) -> None:
        """This rank's part: the sum over all ranks, written to all ranks' tensors."""
        given = 0.0
        for piece in self.pieces:
            piece.add()
            if self.finish:
                given += float(self.finish(piece.own, piece.begin))
            piece.write_back()
        self.summed, self.finish = self.round, None  # it may know the tensor, and would keep it alive
        self.given[self.rank][GIVEN] = given
        self.heads[self.rank][DONE] = self.round


class SharedSums:
    """Sums over ranks of one machine; every method but `holds` and `progress` is a collective call.

    Args:
        gather: a collective call; everybody's value, by rank.
        rank: this rank's number.
        call: around every wait.

    `in_order`: whether sums add numbers in the order of `comm.order`.
    `takes_changes`: whether a rank may change its own numbers until it waits for their sum.
    """

    in_order = takes_changes = True

    def __init__(
        self, gather: Callable[[Any], list[Any]], rank: int, call: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._gather, self._rank, self._call = gather, rank, call
        self._tensors = WeakTensorKeyDictionary()  # -> Shared
        self._open: list[Shared] = []  # sums under way, in the order of their start

    def zeros(self, length: int, dtype: torch.dtype) -> torch.Tensor | None:
        """A one-dimensional tensor of zeros whose sums are made here; None where this machine does not share memory."""
        by_rank = _maps(_HEAD + length * dtype.itemsize, self._gather)
        if by_rank is None:
            return None
        tensors = [one[_HEAD:].view(dtype) for one in by_rank]
        pieces = [
            Piece(place.start, [tensor[place] for tensor in tensors], self._rank)
            for place in _places(length, dtype.itemsize, self._rank, len(tensors))
        ]
        heads, given = [_words(one, "q") for one in by_rank], [_words(one, "d") for one in by_rank]
        mine = by_rank[self._rank][_HEAD:].view(dtype)  # nothing here is a view of it, which would keep it alive
        self._tensors[mine] = Shared(self._rank, tensors[self._rank], heads, given, pieces)
        return mine

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether it came from `zeros`, whole."""
        return tensor in self._tensors

    def start(self, tensor: torch.Tensor, finish: Finish | None) -> Callable[[], float]:
        """Starts the sum of a tensor that `zeros` gave; see `World.start_allreduce`.

        Nothing is summed yet: right after all have written, it takes longer than a while later. What comes back, when
        called, returns when the sum stands in this rank's tensor, and no other rank needs that: what `finish` gave.
        """
        shared: Shared = self._tensors[tensor]
        shared.round += 1
        shared.finish = finish
        self._open.append(shared)
        return partial(self._wait, shared)

    def progress(self) -> None:
        """Nothing is to be done: a sum is made when it is waited for."""

    def _wait(self, shared: Shared) -> float:
        for started in self._open:
            started.heads[self._rank][HANDED] = started.round
        with self._call():
            while not (shared.summed == shared.round and shared.all_at(DONE)):
                if not self._advance():
                    os.sched_yield()
        return shared.total()

    def _advance(self) -> bool:
        """Does this rank's part of the first sum that all have handed over; whether there was one."""
        for place, shared in enumerate(self._open):
            if shared.all_at(HANDED):
                shared.add()
                del self._open[place]
                return True
        return False


def in_pieces(some: slice, each: int) -> Iterator[slice]:
    """The elements from `some.start` to `some.stop`, so many at a time."""
    return (slice(begin, min(begin + each, some.stop)) for begin in range(some.start, some.stop, each))


def shares_memory() -> bool:
    """Whether this system has such files, and promises that what is written first is seen first."""
    return sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64") and hasattr(os, "memfd_create")


def seen(size: int, gather: Callable[[Any], list[Any]]) -> list[torch.Tensor] | None:
    """A collective call: that many bytes of every rank, zeros at first, by rank; see `World.seen`."""
    maps = _maps(_HEAD + size if size else 0, gather)
    return maps and [one[_HEAD:] for one in maps]


def _maps(size: int, gather: Callable[[Any], list[Any]]) -> list[torch.Tensor] | None:
    """Memory of every rank with its head, by rank; None where one has none to give, or does not see another's."""
    memory = _Memory(size)
    where = gather(memory.address if size else None)
    maps = [memory.mapped if one == memory.address else memory.of_another(one) for one in where]
    found = [one for one in maps if one is not None]
    complete = all(gather(len(found) == len(where)))
    memory.close()
    return found if complete else None


class _Memory:
    """This rank's memory, and how others find it; `mapped` is None where the system has none to give, or size is 0.

    A map keeps no file open: ranks x buckets would soon be more than a process may have.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._file: int | None = None
        self.mapped: torch.Tensor | None = None
        self.address: tuple[int, int, int] | None = None
        if not size:
            return
        with suppress(OSError, RuntimeError):  # a limit on files or on addresses: MPI makes the sums
            self._file = os.memfd_create("hvd_adam")
            os.ftruncate(self._file, size)
            self.mapped = _mapped(f"/proc/self/fd/{self._file}", size)
            token = secrets.randbits(62)
            _words(self.mapped, "q")[_TOKEN] = token
            self.address = (os.getpid(), self._file, token)

    def of_another(self, address: tuple[int, int, int] | None) -> torch.Tensor | None:
        """Another rank's memory of the same size; None where it cannot be seen from here."""
        if address is None:
            return None
        process, file, token = address
        name = f"/proc/{process}/fd/{file}"
        try:
            if Path(name).stat().st_size != self._size:
                return None
            mapped = _mapped(name, self._size)
        except (OSError, RuntimeError):  # another container's, or another user's
            return None
        return mapped if _words(mapped, "q")[_TOKEN] == token else None

    def close(self) -> None:
        """Nobody opens it any more; what is mapped stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _mapped(name: str, size: int) -> torch.Tensor:
    return torch.from_file(name, shared=True, size=size, dtype=torch.uint8)


def _words(memory: torch.Tensor, kind: Literal["q", "d"]) -> Any:
    """The head of a rank's memory, as words of 8 bytes: "q" whole numbers, "d" floats."""
    return memory[:_HEAD].numpy().data.cast("B").cast(kind)


def _places(length: int, itemsize: int, rank: int, size: int) -> Iterator[slice]:
    """The elements that a rank sums, a piece at a time: parts of about equal length that begin at cache lines."""
    line = _LINE // itemsize
    each = -(-length // (size * line)) * line
    return in_pieces(slice(rank * each, min((rank + 1) * each, length)), _CACHED // itemsize)
