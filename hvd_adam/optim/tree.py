"""Sums over workers in one fixed order (`comm.order`), so that they are equal bit for bit on any number of ranks.

A rank adds up what it can of its own workers; nodes that it shares with other ranks are added by the rank that owns
the segment, in the tree's order.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from hvd_adam.comm.order import Node, reduce_tree, split
from hvd_adam.comm.protocol import Handle, World
from hvd_adam.errors import RunError


@lru_cache(maxsize=256)
def whole_subtrees(workers: int, start: int, end: int) -> tuple[Node, ...]:
    """The largest nodes of the tree over `workers` that lie inside [start, end), from left to right."""

    def inside(node: Node) -> tuple[Node, ...]:
        if node[1] <= start or end <= node[0]:
            return ()
        if start <= node[0] and node[1] <= end:
            return (node,)
        middle = split(node)
        return inside((node[0], middle)) + inside((middle, node[1]))

    return inside((0, workers))


class SubtreeSums:
    """This rank's workers, merged as they come into the fewest nodes of the tree.

    Keeps at most one model-sized vector for each level of the tree.
    """

    def __init__(self, workers: int, first: int, last: int) -> None:
        self._targets = whole_subtrees(workers, first, last)
        self._stack: list[tuple[Node, list[torch.Tensor]]] = []

    def push(self, worker: int, vectors: list[torch.Tensor]) -> None:
        """Takes the vectors of the next worker in order; they are added to in place later."""
        self._stack.append(((worker, worker + 1), vectors))
        while len(self._stack) > 1:
            (left, mine), (right, others) = self._stack[-2:]
            union = (left[0], right[1])
            if not any(_is_node_of(union, target) for target in self._targets) or split(union) != left[1]:
                return
            for vector, other in zip(mine, others, strict=True):
                vector.add_(other)
            self._stack[-2:] = [(union, mine)]

    def forget(self) -> None:
        """Starts afresh."""
        self._stack = []

    def pop(self) -> list[list[torch.Tensor]]:
        """The vectors of each node of `whole_subtrees`, and starts afresh."""
        stack, self._stack = self._stack, []
        if tuple(node for node, _ in stack) != self._targets:
            raise RuntimeError(f"workers {[node for node, _ in stack]} do not make {self._targets}")
        return [vectors for _, vectors in stack]


def _is_node_of(node: Node, root: Node) -> bool:
    while root != node:
        if root[1] - root[0] < 2 or not (root[0] <= node[0] and node[1] <= root[1]):
            return False
        middle = split(root)
        root = (root[0], middle) if node[1] <= middle else (middle, root[1])
    return True


def start_sum_over_workers(
    world: World, workers: int, mine: list[torch.Tensor], name: str, out: torch.Tensor
) -> Handle:
    """Starts the sum over all workers in the tree's order; what `world.wait` takes, and then it stands in `out`.

    Args:
        mine, name, out: as `sum_over_workers` takes them.

    An allreduce where that adds in the tree's order and each rank's workers are one of its nodes; else it is made now.
    """
    share = workers // world.size
    if (world.size == 1 or share.bit_count() == 1) and world.adds_in_order(out):
        if mine[0] is not out:
            out.copy_(mine[0])
        return world.start_allreduce(out, name)
    sum_over_workers(world, workers, mine, name, out)
    return lambda: 0.0


def sum_over_workers(
    world: World, workers: int, mine: list[torch.Tensor], name: str, out: torch.Tensor | None = None
) -> torch.Tensor:
    """The sum over all workers, in the tree's order, on every rank.

    Args:
        mine: one vector for each of this rank's `whole_subtrees`; equal lengths, a multiple of
            `world.size`.
        name: the same on every rank.
        out: where to put the sum; may be one of `mine`.

    Two collectives: segments to their owners, sums back.
    """
    share = workers // world.size
    nodes = [whole_subtrees(workers, r * share, (r + 1) * share) for r in range(world.size)]
    segment = mine[0].numel() // world.size
    send = mine[0]
    if len(mine) > 1:
        send = torch.stack(mine).view(len(mine), world.size, segment).transpose(0, 1).contiguous().view(-1)
    received = world.alltoall(
        send, [len(mine) * segment] * world.size, [len(held) * segment for held in nodes], f"{name}.parts"
    )
    parts = received.view(-1, segment)
    values = dict(zip((node for held in nodes for node in held), parts, strict=True))
    total = reduce_tree((0, workers), values, torch.add)
    gathered = world.allgather(total.contiguous(), f"{name}.sums")
    return gathered if out is None else out.copy_(gathered)


def sum_of_values(world: World, workers: int, mine: list[torch.Tensor], exact: bool) -> torch.Tensor:
    """The sum over all workers of small vectors, on every rank.

    Args:
        mine: one vector of one length for each of this rank's workers, in order.
        exact: in the tree's order; else as it comes.

    Raises:
        RunError: another number of vectors than this rank has workers.
    """
    share = workers // world.size
    if len(mine) != share:
        raise RunError(
            f"{len(mine)} values for {share} workers of rank {world.rank}",
            "each worker contributes one",
            "hand in one tensor a worker, zeros where it has nothing",
        )
    if not exact:
        total = torch.stack(mine).sum(0)
        world.wait(world.start_allreduce(total, "hvd_adam.sum"))
        return total
    length, first = mine[0].numel(), world.rank * share
    padded = -(-length // world.size) * world.size
    sums = SubtreeSums(workers, first, first + share)
    for worker, value in enumerate(mine, first):
        sums.push(worker, [torch.nn.functional.pad(value, (0, padded - length))])
    nodes = [vectors[0] for vectors in sums.pop()]
    return sum_over_workers(world, workers, nodes, "hvd_adam.sum")[:length]
