"""Gradients that stay where autograd left them, and are summed there by the rank that updates their weights.

Where ranks of one machine divide the step and hold the weights once, each needs the means of its own part, and nobody
else does. So a rank copies to memory that all see only what others update of its gradients; to the rest, where it
lies, it adds what the others have copied. No mean is written to another rank.

What is not autograd's alone is copied first: a gradient set by hand, or in memory that somebody else holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from hvd_adam.comm.order import add_all
from hvd_adam.comm.protocol import Number, World
from hvd_adam.comm.shared import in_pieces
from hvd_adam.optim.divided import DividedStep, at, room
from hvd_adam.optim.refusals import kind_of, refuse_changed

SMALLEST = 1 << 17  # bytes of a gradient that is kept: those of many small ones are summed faster in one bucket
_CACHED = 1 << 19  # bytes that are summed before the next: they stay in a core's own cache
_HEAD = 64  # bytes before the gradients: what `made` gave


@dataclass(eq=False)
class Place:
    """Where the gradients of one parameter are.

    Attributes:
        everyones: one-dimensional memory, by rank; a rank's holds of its gradient what other ranks update.
        rank: this one's number.
        cuts: elements where the ranks' parts begin, and the last one's end.
        view: this rank's memory in the parameter's shape.
        gradient: this rank's, one-dimensional; None while it has none.
        born: address of the memory that backward left a gradient in, this step.
    """

    everyones: list[Tensor]
    rank: int
    cuts: list[int]
    view: Tensor
    gradient: Tensor | None = None
    born: int | None = None

    @property
    def own(self) -> slice:
        """The elements that this rank updates."""
        return slice(self.cuts[self.rank], self.cuts[self.rank + 1])

    @property
    def is_kept(self) -> bool:
        """Whether there are any."""
        return self.own.start < self.own.stop

    @cached_property
    def pieces(self) -> list[tuple[slice, list[Tensor]]]:
        """This rank's elements, a piece at a time, and what of them all ranks have in their memory."""
        places = in_pieces(self.own, _CACHED // self.view.itemsize)
        return [(place, [one[place] for one in self.everyones]) for place in places]

    @property
    def others(self) -> tuple[slice, slice]:
        """The elements that other ranks update."""
        return slice(0, self.own.start), slice(self.own.stop, None)

    def give(self, gradient: Tensor) -> None:
        """Copies what other ranks update."""
        for some in self.others:
            self.everyones[self.rank][some].copy_(gradient[some])

    def give_nothing(self) -> None:
        """Writes zeros to what other ranks update."""
        for some in self.others:
            self.everyones[self.rank][some].zero_()

    def add(self, made: Callable[[Tensor], Number]) -> float:
        """Sums this rank's elements over all ranks, in its gradient; adds up what `made` gives on the pieces."""
        if self.gradient is None:
            self.gradient = torch.zeros_like(self.view).view(-1)
        given = 0.0
        for place, everyones in self.pieces:
            own = self.gradient[place]
            add_all([*everyones[: self.rank], own, *everyones[self.rank + 1 :]], self.rank)
            given += float(made(own))
        return given


class KeptGradients:
    """The large ones of a divided step, by their parameters' numbers; none of them where `places` is empty.

    Args:
        world: its ranks are all on one machine.
        rank: this one's number among them.
        squares: a number of each rank, in memory that all see.
    """

    def __init__(
        self, parameters: Sequence[Tensor], world: World, rank: int, squares: list[Tensor], places: dict[int, Place]
    ) -> None:
        self._parameters, self._world, self._rank = parameters, world, rank
        self._squares, self._places = squares, places

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, number: object) -> bool:
        return number in self._places

    def came(self, number: int) -> None:
        """Backward has made a gradient. One that other ranks update all of goes to its place at once.

        Raises:
            RunError: the parameter is not what it was when it was wrapped.
        """
        place, parameter = self._places[number], self._parameters[number]
        refuse_changed(parameter, kind_of(place.view))
        if parameter.grad is not None:
            place.born = parameter.grad.data_ptr()
            if not place.is_kept:
                _hand_over(parameter, place.view)

    def close(self, number: int) -> bool:
        """After backward: takes the gradient as it is by now, whoever made or changed it; False where there is none.

        Raises:
            RunError: as `came`.
        """
        place, parameter = self._places[number], self._parameters[number]
        refuse_changed(parameter, kind_of(place.view))
        gradient, place.gradient = parameter.grad, None
        if gradient is None:
            place.give_nothing()
        elif place.is_kept:
            ours = gradient.data_ptr() == place.born and not _is_held_elsewhere(gradient)
            flat = gradient.detach().contiguous().view(-1)
            place.gradient = flat if ours else flat.clone()
            place.give(place.gradient)
        else:
            _hand_over(parameter, place.view)
        return gradient is not None

    def add(self, present: Collection[int], made: Callable[[Tensor], Number]) -> float:
        """A collective call, after all have closed: sums what this rank updates.

        Args:
            present: numbers of the parameters that some rank has a gradient of.
            made: changes a piece of the sum to what the step takes, in place, and gives a number.

        Returns the sum of these numbers over all ranks, the same on each.
        """
        mine = (place for number, place in self._places.items() if number in present and place.is_kept)
        self._squares[self._rank].fill_(sum(place.add(made) for place in mine))
        self._world.meet()
        return sum(one.item() for one in self._squares)

    def scale(self, factor: float) -> None:
        """Multiplies what this rank updates."""
        for place in self._places.values():
            if place.gradient is not None:
                place.gradient[place.own].mul_(factor)

    def gradient(self, number: int) -> Tensor:
        """In the parameter's shape; after `add` it is the mean in the elements that this rank updates."""
        place = self._places[number]
        return place.view if place.gradient is None else place.gradient.view(place.view.shape)

    def show(self) -> None:
        """A collective call: makes all of each gradient the mean, for hooks that look at the step."""
        for place in self._places.values():
            if place.gradient is not None:
                place.everyones[self._rank][place.own].copy_(place.gradient[place.own])
        self._world.meet()
        for place in self._places.values():
            parts = zip(place.everyones, pairwise(place.cuts), strict=True)
            place.gradient = torch.cat([one[begin:end] for one, (begin, end) in parts])
        self._world.meet()

    def leave(self) -> None:
        """After the step: the parameters have no gradients any more."""
        for number, place in self._places.items():
            self._parameters[number].grad = place.gradient = place.born = None


def keep(step: DividedStep | None, parameters: Sequence[Tensor], world: World) -> KeptGradients:
    """A collective call, the same on all ranks; keeps nothing where `step` is None, or does not allow it.

    Args:
        parameters: those of `step`.
    """
    numbers = [number for number, one in enumerate(parameters) if one.nbytes >= SMALLEST and one.dtype.itemsize >= 4]
    nothing = KeptGradients(parameters, world, 0, [], {})
    if step is None or not step.share_weights or not numbers:
        return nothing
    memory = world.seen(_HEAD + sum(room(parameters[number]) for number in numbers))
    if memory is None or len(memory.everyones) < world.size:  # some ranks are on other machines
        return nothing
    places, begin = {}, _HEAD
    for number in numbers:
        parameter = parameters[number]
        everyones = [at(one, begin, parameter) for one in memory.everyones]
        view = everyones[memory.own].view(parameter.shape)
        places[number] = Place(everyones, memory.own, step.cuts(parameter), view)
        begin += room(parameter)
    squares = [one[:8].view(torch.float64) for one in memory.everyones]
    return KeptGradients(parameters, world, memory.own, squares, places)


def _hand_over(parameter: Tensor, view: Tensor) -> None:
    """Takes a gradient to where others see it; from then on p.grad is that memory."""
    gradient = parameter.grad
    assert gradient is not None
    there = gradient.data_ptr() == view.data_ptr()
    if not (there and gradient.is_contiguous()):
        view.copy_(gradient.detach().clone() if there else gradient.detach())
        parameter.grad = view


def _uses(tensor: Tensor) -> int:
    return torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)


_ONE = _uses(torch.empty(1))


def _is_held_elsewhere(gradient: Tensor) -> bool:
    """Whether another tensor has its memory: autograd may give two parameters views of one, or of the user's own."""
    return _uses(gradient) > _ONE
