"""What is judged: three schedules and T, with their trees, germs and numbers made when first asked for."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Callable

from hvd_adam.schedules import Schedule
from hvd_adam.theory.bands import band_of
from hvd_adam.theory.germs import Germ
from hvd_adam.theory.growth import FamilyGrowth, Growth, known
from hvd_adam.theory.numeric import DENSE, Samples
from hvd_adam.theory.orders import CONSTANT, Unclear
from hvd_adam.theory.shapes import Interval, Shape, shape_of
from hvd_adam.theory.trees import Tree, breakpoints, complement_of, tree_of
from hvd_adam.theory.verdict import Evidence

_CUTS = (2, 3, 4, 5, 7, 10, 20, 30, 100, 300, 1000, 10**4, 10**5, 10**6)


@dataclass(frozen=True)
class Subject:
    """The schedules of a run of T = `steps`.

    Args:
        look: numbers may be looked at; False judges by algebra alone, in milliseconds.
    """

    alpha: Schedule
    beta: Schedule
    theta: Schedule
    steps: int
    look: bool = True

    @cached_property
    def family(self) -> bool:
        """Whether a schedule knows T."""
        return any(s.needs_horizon for s in (self.alpha, self.beta, self.theta))

    @property
    def variable(self) -> str:
        """What runs to infinity."""
        return "T" if self.family else "t"

    @cached_property
    def alpha_tree(self) -> Tree:
        return tree_of(self.alpha)

    @cached_property
    def beta_tree(self) -> Tree:
        return tree_of(self.beta)

    @cached_property
    def complement_tree(self) -> Tree:
        """1 - theta_t."""
        return complement_of(tree_of(self.theta))

    @cached_property
    def chi_tree(self) -> Tree:
        return ("/", self.alpha_tree, ("sqrt", self.complement_tree))

    @cached_property
    def growth(self) -> Growth:
        kind = FamilyGrowth if self.family else Growth
        return kind(self.alpha_tree, self.complement_tree)

    @cached_property
    def samples(self) -> Samples:
        return self.samples_at(self.steps)

    def samples_at(self, steps: int, most: int = DENSE) -> Samples:
        """The numbers of a run of another length; every t up to `most`."""
        alpha, beta, theta = (s.with_horizon(steps) for s in (self.alpha, self.beta, self.theta))
        return Samples(alpha, beta, theta, steps, self.family, most)

    def shape(self, tree: Tree, first: int = 1) -> Shape | None:
        """The shape for every t >= first; None where it is not known. Of a family: see `shown`."""
        try:
            shape = shape_of(tree, first)
            return shape if self.family else self._between_ends(tree, first, shape)
        except Unclear:
            return None

    def _between_ends(self, tree: Tree, first: int, shape: Shape) -> Shape:
        """Tighter: what never rises, or never falls, lies between its value at the start and its limit."""
        limit = known(lambda: band_of(tree))
        if limit is None or not limit.is_point or shape.is_constant or not (shape.rising or shape.falling):
            return shape
        end, inside, start = limit_of(limit.low), shape.range, shape_of(tree, first, first).range
        approached = any(not order.is_constant for _, order in limit.low.terms)  # and never reached, being monotone
        if shape.rising and end <= inside.high:  # the start's value is reached, what bounds the whole may not be
            low, low_open = max((inside.low, inside.low_open), (start.low, start.low_open))
            bounds = Interval(low, end, low_open, approached)
        elif shape.falling and end >= inside.low:
            high, high_reached = min((inside.high, not inside.high_open), (start.high, not start.high_open))
            bounds = Interval(end, high, approached, not high_reached)
        else:
            return shape
        return dataclasses.replace(shape, range=bounds)

    def shown(self, tree: Tree, test: Callable[[Shape], bool], seen: Callable[[int], bool]) -> str | None:
        """A proof that a tree's shape passes a test; None where there is none.

        Args:
            test: what is to be shown.
            seen: whether the same was found at every step t <= its argument, by evaluation.

        Returns:
            The proof's extent in words: "every t", or what had to be evaluated besides.
        """
        if self.family:
            return self._shown_for_every_horizon(tree, test)
        if self._passes(tree, test, 1):
            return "by algebra, every t"
        if not self.look:
            return None
        marks = [b for b in breakpoints(tree) if b <= min(DENSE, self.samples.dense)]
        for first in sorted({*_CUTS, *marks[:20]}):
            if first <= self.samples.dense and self._passes(tree, test, first):
                return f"each t to {first}, by algebra beyond" if seen(first) else None
        return None

    def _passes(self, tree: Tree, test: Callable[[Shape], bool], first: int) -> bool:
        try:
            shape = shape_of(tree, first)
            return test(shape) or test(self._between_ends(tree, first, shape))
        except Unclear:
            return False

    def _shown_for_every_horizon(self, tree: Tree, test: Callable[[Shape], bool]) -> str | None:
        horizon = 1
        while horizon <= self.steps:
            try:
                if test(shape_of(tree, 1, horizon=horizon)):
                    return "by algebra, every t and T" if horizon == 1 else f"by algebra, every t, T >= {horizon}"
            except Unclear:
                pass
            horizon *= 2
        return None

    @property
    def looked(self) -> Evidence:
        """The evidence of the numbers."""
        samples = self.samples
        far = samples.far if samples.far > samples.dense else samples.dense
        return Evidence("numeric", f"up to {'T' if self.family else 't'} = {far:.4g}", samples.dense, far)


def limit_of(germ: Germ) -> float:
    """What it tends to, infinities included."""
    if germ.is_zero or germ.size.against(CONSTANT) < 0:
        return 0.0
    c, order = germ.lead
    return float(c) if order.is_constant else math.copysign(math.inf, c)
