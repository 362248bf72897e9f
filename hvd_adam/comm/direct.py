"""Sums between ranks that send to each other: each sums one part of every tensor over all ranks, and sends it to all.

Ranks agree on nothing beforehand, since all start the same sums in the same order. Numbers travel in pieces that MPI
over TCP sends without asking the receiver, many under way at once, so that none waits for the way there and back of
another. No thread looks after them, which would take a core from the computation: sums go on in `progress`, which the
hooks of backward call, and in `wait`.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from mpi4py import MPI

from hvd_adam.comm.order import add_all
from hvd_adam.comm.protocol import Finish

_PIECE = 64_000  # bytes of a message: from 64 KiB on Open MPI's TCP asks the receiver first
BLOCK = 1 << 22  # bytes that are summed as one
_UNDER_WAY = 4  # blocks whose numbers travel at a time: a rank that is late has to hold no more of them
_PAUSE = 2e-4  # seconds between two looks during a computation
_TAGS = 1 << 14  # blocks until numbers of messages come again


class Awaited(NamedTuple):
    """What must have happened before a sum goes on."""

    come: Callable[[], bool]
    requests: Sequence[MPI.Request] = ()


Steps = Generator[Awaited, None, float]  # of a sum: yields what must have happened before the next; returns `given`


class Block:
    """One sum under way; `given` is what `finish` gave on all ranks, once it is `made`. One that fails stays so."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._awaited = Awaited(lambda: True)
        self._failure: BaseException | None = None
        self.made = False
        self.given = 0.0

    def go_on(self) -> None:
        """Does what has become possible."""
        if self._failure:
            raise self._failure
        while not self.made and self._awaited.come():
            try:
                self._awaited = next(self._steps)
            except StopIteration as end:
                self.given, self.made = end.value, True
            except BaseException as failure:
                self._failure = failure
                raise

    def drop(self) -> None:
        """Nothing is written to its memory any more: before Python gives that back, and MPI ends."""
        for request in self._awaited.requests:
            if request:
                request.Cancel()


class DirectSums:
    """Sums over the ranks of a communicator.

    Args:
        comm: that nobody else sends on; its ranks make the same calls in the same order.
        call: around every wait.
    """

    def __init__(self, comm: MPI.Comm, call: Callable[[], AbstractContextManager[None]]) -> None:
        self._comm, self._call = comm, call
        self._rank, self._size = comm.Get_rank(), comm.Get_size()
        self._others = [rank for rank in range(self._size) if rank != self._rank]
        self._open: list[Block] = []  # in the order of their start
        self._started = 0
        self._looked = 0.0
        atexit.register(self._drop)

    def start(self, tensor: torch.Tensor, finish: Finish | None) -> list[Block]:
        """Starts the sum of a contiguous tensor on the CPU; see `World.start_allreduce`."""
        flat, length = tensor.view(-1), BLOCK // tensor.itemsize
        return self.carry(
            self.sum(flat[begin : begin + length], begin, finish) for begin in range(0, flat.numel(), length)
        )

    def sum(self, block: torch.Tensor, begin: int, finish: Finish | None) -> Steps:
        """The next sum of all, of one block that begins at that number of its tensor; `carry` makes it."""
        self._started += 1
        return self._sum(block, begin, finish, self._started % _TAGS)

    def carry(self, sums: Iterable[Steps]) -> list[Block]:
        """Starts them, in this order."""
        blocks = [Block(steps) for steps in sums]
        self._open += blocks
        self._go_on()
        return blocks

    def progress(self) -> None:
        """Goes on with the sums under way; called often during a computation, it does so now and then."""
        if self._open and time.perf_counter() - self._looked > _PAUSE:
            self._go_on()
            self._looked = time.perf_counter()

    def wait(self, blocks: list[Block]) -> float:
        """Returns when those sums are made: what `finish` gave, the same on all ranks."""
        with self._call():
            while not all(block.made for block in blocks):
                self._go_on()
                os.sched_yield()
        return sum(block.given for block in blocks)

    def _drop(self) -> None:
        for block in self._open:
            block.drop()

    def _go_on(self) -> None:
        for block in islice(self._open, _UNDER_WAY):
            block.go_on()
        self._open = [block for block in self._open if not block.made]

    def _sum(self, block: torch.Tensor, begin: int, finish: Finish | None, number: int) -> Steps:
        each = -(-block.numel() // self._size)
        parts = [block[rank * each : (rank + 1) * each] for rank in range(self._size)]
        mine = parts[self._rank]
        everyones = [mine if rank == self._rank else torch.empty_like(mine) for rank in range(self._size)]
        yield _messages(
            self._receive(((rank, everyones[rank]) for rank in self._others), 2 * number),
            self._send(((rank, parts[rank]) for rank in self._others), 2 * number),
        )
        add_all(everyones, self._rank)
        given = torch.zeros(self._size, dtype=torch.float64)
        if finish and mine.numel():
            given[self._rank] = float(finish(mine, begin + self._rank * each))
        yield _messages(
            self._receive(((rank, parts[rank]) for rank in self._others), 2 * number + 1),
            self._receive(((rank, given[rank : rank + 1]) for rank in self._others), 2 * number + 1),
            self._send(((rank, mine) for rank in self._others), 2 * number + 1),
            self._send(((rank, given[self._rank : self._rank + 1]) for rank in self._others), 2 * number + 1),
        )
        return sum(given.tolist())

    def _receive(self, places: Any, tag: int) -> Iterator[MPI.Request]:
        return (self._comm.Irecv(piece, rank, tag) for rank, tensor in places for piece in _pieces(tensor))

    def _send(self, parts: Any, tag: int) -> Iterator[MPI.Request]:
        return (self._comm.Isend(piece, rank, tag) for rank, tensor in parts for piece in _pieces(tensor))


def _messages(*kinds: Iterator[MPI.Request]) -> Awaited:
    requests = [request for kind in kinds for request in kind]
    return Awaited(partial(MPI.Request.Testall, requests), requests)


def _pieces(tensor: torch.Tensor) -> Iterator[np.ndarray]:
    content = tensor.numpy().view(np.uint8)
    return (content[begin : begin + _PIECE] for begin in range(0, len(content), _PIECE))
