"""Sums over machines of several ranks each, in two layers: on each machine in memory, and between them by messages.

Of every tensor a rank sums one part over its machine, sums that with the ranks of the same place on all other machines,
and writes what comes of it to its machine's other ranks. So one of M machines sends 2 (M - 1) / M of a tensor, however
many ranks it has, and all of them send at once. Sums go on in `progress`, beside backward.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch

from hvd_adam.comm.direct import BLOCK, Awaited, Block, DirectSums, Steps
from hvd_adam.comm.protocol import Finish
from hvd_adam.comm.shared import DONE, GIVEN, HANDED, Piece, Shared, SharedSums


class HierarchicalSums(SharedSums):
    """Sums over all ranks, of tensors that `zeros` gave.

    Args:
        gather: a collective call; the value of everybody on this machine, by local rank.
        everybodys: the same over all machines.
        rank: this rank's number on its machine.
        across: sums over the ranks of the same number on all machines, of which each has as many.
        call: around every wait.
        in_order: whether adding on each machine, and then over machines, makes the tree over all ranks.
    """

    takes_changes = False

    def __init__(
        self,
        gather: Callable[[Any], list[Any]],
        everybodys: Callable[[Any], list[Any]],
        rank: int,
        across: DirectSums,
        call: Callable[[], AbstractContextManager[None]],
        in_order: bool,
    ) -> None:
        super().__init__(gather, rank, call)
        self._everybodys, self._across, self.in_order = everybodys, across, in_order

    def zeros(self, length: int, dtype: torch.dtype) -> torch.Tensor | None:
        """As on one machine; None where any of them does not share memory."""
        mine = super().zeros(length, dtype)
        return mine if all(self._everybodys(mine is not None)) else None

    def start(self, tensor: torch.Tensor, finish: Finish | None) -> Callable[[], float]:
        """Starts a sum; what comes back ends it, as on one machine. From now on nobody changes the tensor."""
        shared: Shared = self._tensors[tensor]
        shared.round += 1
        shared.heads[self._rank][HANDED] = shared.round
        blocks = self._across.carry(self._layers(shared, pieces, finish) for pieces in _blocks(shared.pieces))
        return partial(self._end, shared, blocks)

    def progress(self) -> None:
        """Goes on with the sums under way."""
        self._across.progress()

    def _layers(self, shared: Shared, pieces: list[Piece], finish: Finish | None) -> Steps:
        # the sum between machines is drawn here, in the order of starts, which its messages are numbered by
        begin, end = pieces[0].begin, pieces[-1].begin + len(pieces[-1].own)
        return _through(shared, pieces, self._across.sum(shared.own[begin:end], begin, finish))

    def _end(self, shared: Shared, blocks: list[Block]) -> float:
        self._across.wait(blocks)
        shared.given[self._rank][GIVEN] = sum(block.given for block in blocks)
        shared.heads[self._rank][DONE] = shared.round
        with self._call():
            while not shared.all_at(DONE):
                self._across.progress()
                os.sched_yield()
        return shared.total()


def _through(shared: Shared, pieces: list[Piece], across: Steps) -> Steps:
    """One block: summed on this machine, then between machines, and written to this machine's other ranks."""
    yield Awaited(partial(shared.all_at, HANDED))
    for piece in pieces:
        piece.add()
    given = yield from across
    for piece in pieces:
        piece.write_back()
    return given


def _blocks(pieces: list[Piece]) -> Iterator[list[Piece]]:
    """Pieces that follow each other, about `BLOCK` bytes at a time."""
    each = max(1, BLOCK // pieces[0].own.nbytes) if pieces else 1
    return (pieces[first : first + each] for first in range(0, len(pieces), each))
