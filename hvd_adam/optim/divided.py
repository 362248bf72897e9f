"""One step of GenericAdam by all ranks of a machine: each updates a part of the weights.

Ranks have the same weights, mean gradients and moments, so each would make the same update. Here the moments lie once
for all in memory that every rank sees, and so do the weights where nothing but the step changes them; else each rank
holds its own there, and writes its part to the others'. A step reads and writes less, and a machine holds one pair of
moments. The bits stay the same: a number is updated by the same kernel, from the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from hvd_adam.comm.heap import return_freed_memory
from hvd_adam.comm.protocol import Seen, World
from hvd_adam.comm.shared import in_pieces
from hvd_adam.optim import kernel
from hvd_adam.optim.agreement import agree, refuse_drift
from hvd_adam.optim.generic_adam import MOMENTS, GenericAdam, complete_state
from hvd_adam.optim.kernel import Rule, Tensors
from hvd_adam.optim.refusals import kind_of, refuse_changed, refuse_other_moments, refuse_written

SMALLEST = 1 << 20  # numbers of a model whose step is divided: meeting once more takes longer than a small one's update
_WEIGHTS = "weights"
_LINE = 64  # bytes at which a tensor begins, and numbers at which it is cut: the kernel's vectors stay what they were
_PIECE = 1 << 18  # numbers that are updated at once: what is written to the others comes from the cache
_LEFT = 64 << 20  # bytes of tensors that came to the shared memory, before the system gets back where they were


class Piece(NamedTuple):
    """Some elements of what a rank updates: which of the parameter's, its own weights there, the others', moments."""

    here: slice
    own: Tensor
    others: list[Tensor]
    moments: dict[str, Tensor]


@dataclass(eq=False)
class Part:
    """Of one parameter, what this rank updates; tensors are one-dimensional.

    Attributes:
        own: the parameter's memory here.
        others: the same on the other ranks; none where all have one.
        moments: of the machine, by their names in the optimizer's state.
        here: the elements that this rank updates.
        cuts: elements where the ranks' parts begin, and the last one's end.
        again: the parameter's memory, and each moment's by its name, once more: as the user may move a storage.
    """

    own: Tensor
    others: list[Tensor]
    moments: dict[str, Tensor]
    here: slice
    cuts: list[int]
    again: Mapping[str, Callable[[], Tensor]]

    def holds(self, parameter: Tensor, state: Mapping[str, Tensor]) -> bool:
        """Whether the parameter and its moments lie here."""
        return parameter.data_ptr() == self.own.data_ptr() and all(
            name in state and state[name].data_ptr() == moment.data_ptr() for name, moment in self.moments.items()
        )

    @cached_property
    def pieces(self) -> list[Piece]:
        """Its elements, a piece at a time."""
        return [
            Piece(
                here,
                self.own[here],
                [other[here] for other in self.others],
                {name: moment[here] for name, moment in self.moments.items()},
            )
            for here in in_pieces(self.here, _PIECE)
        ]


class DividedStep:
    """Divides the step of `optimizer` among the ranks of `world`; see `divide`.

    Args:
        parameters: all that the optimizer updates.
        weights: memory of every rank of this machine.
        moments: memory for those of all ranks.
        share_weights: all ranks have their weights in the first one's memory; they are equal already.
    """

    def __init__(
        self,
        optimizer: GenericAdam,
        parameters: Sequence[Tensor],
        world: World,
        weights: Seen,
        moments: Tensor,
        share_weights: bool,
    ) -> None:
        self._optimizer, self._world, self._hooked = optimizer, world, False
        self._parts: dict[Tensor, Part] = {}
        numbers = sum(one.numel() for one in parameters)
        ranks = len(weights.everyones)
        memories, mine = (weights.everyones[:1], 0) if share_weights else weights
        before, place, its_place = 0, 0, 0
        for parameter in parameters:
            others = [at(memory, place, parameter) for memory in memories]
            again = {_WEIGHTS: partial(at, memories[mine], place, parameter)}
            for name in _moments_of(optimizer, parameter):
                again[name] = partial(at, moments, its_place, parameter)
                its_place += room(parameter)
            state = {name: made() for name, made in again.items() if name != _WEIGHTS}
            cuts = [_cut(numbers * rank // ranks - before, parameter.numel()) for rank in range(ranks + 1)]
            here = slice(cuts[weights.own], cuts[weights.own + 1])
            self._parts[parameter] = Part(others.pop(mine), others, state, here, cuts, again)
            before, place = before + parameter.numel(), place + room(parameter)
        self.share_weights = share_weights
        self._versions = {one: one._version for one in parameters if share_weights}
        self.take_in()
        world.meet()  # what one rank loads from here on, no other may overwrite with what it brought

    def cuts(self, parameter: Tensor) -> list[int]:
        """Elements where the ranks' parts of it begin, and the last one's end."""
        return self._parts[parameter].cuts

    def take_in(self) -> None:
        """Before the last sum: what lies elsewhere, at first or since a load, comes to the memory that others see.

        Each rank brings its part of what there is once: its pages come to be near the rank that updates them.

        Raises:
            RunError: a parameter or its moments are not what they were; or something else than the step has written
                to weights that all ranks have in one memory.
        """
        for parameter, version in self._versions.items():
            if parameter._version != version:  # the step writes by other tensors
                refuse_written(parameter)
        state = self._optimizer.state
        moved = [one for one, part in self._parts.items() if not part.holds(one, state[one])]
        if not moved:
            return
        complete_state(self._optimizer)
        left = 0
        for parameter in moved:
            part, moments = self._parts[parameter], state[parameter]
            refuse_changed(parameter, kind_of(part.own))
            refuse_other_moments(_moments_of(self._optimizer, parameter), part.moments)
            if parameter.data_ptr() != part.own.data_ptr():
                brought = part.here if self.share_weights else slice(None)
                part.own[brought].copy_(parameter.detach().reshape(-1)[brought])
                parameter.data = part.again[_WEIGHTS]().view(parameter.shape)
                left += parameter.nbytes
            for name, moment in part.moments.items():
                if moments[name].data_ptr() != moment.data_ptr():
                    moment[part.here].copy_(moments[name].reshape(-1)[part.here])
                    moments[name] = part.again[name]().view(parameter.shape)
                    left += moment.nbytes
            if left > _LEFT:
                return_freed_memory()
                left = 0
        return_freed_memory()

    def check(self, when: str) -> None:
        """A collective call: names ranks that have drifted apart, now, since weights are the same after the step.

        Raises:
            RunError: they have, in weights or options.
        """
        refuse_drift(self._world, self._parts, when=when)
        agree(self._world, dict(_options(self._optimizer)))

    @contextmanager
    def among_ranks(self, hooked: bool) -> Iterator[None]:
        """Around the optimizer's step, on all ranks; they meet before its hooks see the weights.

        Args:
            hooked: the same on all ranks: hooks of some look at the step.
        """
        self._hooked = hooked
        self._optimizer.run, self._optimizer.end = self._run, self._world.meet
        try:
            yield
        finally:
            del self._optimizer.run, self._optimizer.end

    def _run(self, tensors: Tensors, rule: Rule, fused: bool, grad_scale: Tensor | None = None) -> None:
        if self._hooked:  # a hook may have changed weights that others are about to write
            self._world.meet()
            self._hooked = False
        some, pieces, size = Tensors([], [], [], [], [], []), [], 0
        for place, parameter in enumerate(tensors.parameters):
            part, gradient = self._parts[parameter], tensors.gradients[place].view(-1)
            for piece in part.pieces:
                some.parameters.append(piece.own)
                some.gradients.append(gradient[piece.here])
                some.steps.append(tensors.steps[place])
                for name, moments in zip(MOMENTS, (some.first, some.second, some.largest), strict=True):
                    if name in piece.moments:
                        moments.append(piece.moments[name])
                pieces.append(piece)
                size += piece.own.numel()
                if size >= _PIECE:
                    _update(some, rule, fused, grad_scale, pieces)
                    some, pieces, size = Tensors([], [], [], [], [], []), [], 0
        if size:
            _update(some, rule, fused, grad_scale, pieces)


def divide(optimizer: Optimizer, parameters: Sequence[Tensor], world: World, share_weights: bool) -> DividedStep | None:
    """A collective call; None where each rank updates all: another optimizer, a small model, no memory that all see.

    With `share_weights`, the same on all ranks, theirs are equal by now and lie in one memory from here on.
    """
    if world.size == 1 or type(optimizer) is not GenericAdam or sum(one.numel() for one in parameters) < SMALLEST:
        return None
    complete_state(optimizer)
    storages = [one.untyped_storage().data_ptr() for one in parameters if one.numel()]  # tied ones would be untied
    fits = len(set(storages)) == len(storages) and all(
        one.is_contiguous() and one.device.type == "cpu" for one in parameters
    )
    weights = world.seen(sum(map(room, parameters)) if fits else 0)
    moments = world.seen(sum(room(one) * len(_moments_of(optimizer, one)) for one in parameters) if fits else 0)
    if weights is None or moments is None:
        return None
    return DividedStep(optimizer, parameters, world, weights, moments.everyones[0], share_weights)


def _update(some: Tensors, rule: Rule, fused: bool, grad_scale: Tensor | None, pieces: Sequence[Piece]) -> None:
    kernel.run(some, rule, fused, grad_scale)
    for piece in pieces:
        for other in piece.others:
            other.copy_(piece.own)


def _options(optimizer: GenericAdam) -> Iterator[tuple[str, str]]:
    for number, group in enumerate(optimizer.param_groups):
        for name, value in group.items():
            if name != "params":
                yield f"{name} of parameter group {number}", repr(value)


def _moments_of(optimizer: GenericAdam, parameter: Tensor) -> list[str]:
    return [name for name in MOMENTS if name in optimizer.state[parameter]]


def room(parameter: Tensor) -> int:
    """Bytes that it takes."""
    return -(-parameter.nbytes // _LINE) * _LINE


def at(memory: Tensor, place: int, parameter: Tensor) -> Tensor:
    """As many numbers there, in a storage of their own: who saves them saves nothing else."""
    if not parameter.numel():
        return parameter.new_empty(0)
    return torch.frombuffer(memory.numpy().data, dtype=parameter.dtype, count=parameter.numel(), offset=place)


def _cut(at: int, length: int) -> int:
    """The nearest place to cut a tensor, at or before that element."""
    return length if at >= length else max(0, at) // _LINE * _LINE
