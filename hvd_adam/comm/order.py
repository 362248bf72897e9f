"""The one order in which numbers of many are added, so that their sum is the same bit for bit wherever it is made.

It is a binary tree over 0 .. n - 1: a node [a, b) splits after the largest power of two smaller than b - a. Where each
rank holds the sum over a power of two of workers in a row, the tree over ranks is the top of that over workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch

Node = tuple[int, int]
Value = TypeVar("Value")


def split(node: Node) -> int:
    """Where [a, b) is cut in two; b - a >= 2."""
    start, end = node
    return start + (1 << (end - start - 1).bit_length() - 1)


def reduce_tree(root: Node, values: Mapping[Node, Value], add: Callable[[Value, Value], Value]) -> Value:
    """The value of `root` from those of a set of nodes that cover it."""
    if root in values:
        return values[root]
    middle = split(root)
    left = reduce_tree((root[0], middle), values, add)
    return add(left, reduce_tree((middle, root[1]), values, add))


def add_all(tensors: Sequence[torch.Tensor], own: int) -> None:
    """Writes the sum of all over the tensor of number `own`; the others stay as they are."""
    mine = tensors[own]

    def add(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        if left is mine:
            return mine.add_(right)
        return mine.add_(left) if right is mine else left + right

    reduce_tree((0, len(tensors)), {(number, number + 1): one for number, one in enumerate(tensors)}, add)
