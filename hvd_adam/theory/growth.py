"""What the clauses ask for in the limit: chi_t, clause 4's ratio and T alpha_T, as bands of germs.

Where no schedule knows T, t runs to infinity. Where one does, there is a schedule for each T, and T runs to
infinity: alpha_t and 1 - theta_t are then split into factors of t alone, of T alone, and of t/T.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Callable

from hvd_adam.theory import germs
from hvd_adam.theory.bands import Band, band_of, point
from hvd_adam.theory.germs import T_GERM
from hvd_adam.theory.orders import CONSTANT, ONE, Number, Order, Unclear, exact
from hvd_adam.theory.shapes import shape_of
from hvd_adam.theory.trees import HORIZON, STEP, Tree, at_first_step, hides_step, is_progress, mentions, number, replace

_HALF, _MINUS = exact(0.5), -ONE


def known(make: Callable[[], Band]) -> Band | None:
    """The band's leading terms, or None where the algebra cannot tell, or all terms it knows cancel."""
    try:
        band = make().map(leading)
        return None if any(not end.terms and end.rest is not None for end in (band.low, band.high)) else band
    except (Unclear, OverflowError, ZeroDivisionError, RecursionError):
        return None


@dataclass(frozen=True)
class Growth:
    """Of a sequence: everything as t grows.

    Args:
        alpha: the tree of alpha_t; complement: that of 1 - theta_t.
    """

    alpha: Tree
    complement: Tree

    @cached_property
    def chi(self) -> Band | None:
        """alpha_t / sqrt(1 - theta_t)."""
        return known(lambda: band_of(self.alpha) * band_of(self.complement).to_the(-_HALF))

    @cached_property
    def reach(self) -> Band | None:
        """T alpha_T."""
        return known(lambda: point(T_GERM) * band_of(self.alpha))

    @cached_property
    def total(self) -> Band | None:
        """sum_{t<=T} alpha_t sqrt(1 - theta_t)."""
        return known(lambda: summed(band_of(self.alpha) * band_of(self.complement).to_the(_HALF)))

    @property
    def ratio(self) -> Band | None:
        """Clause 4's ratio."""
        return quotient(self.total, self.reach)

    @property
    def limit(self) -> float | None:
        """What clause 4's ratio tends to, where that is a positive number that is known."""
        ratio = self.ratio
        if ratio is None or not ratio.is_point or not ratio.low.terms or self.converges:
            return None
        c, order = ratio.low.lead
        return float(c) if order.is_constant else None

    @property
    def converges(self) -> bool:
        """The sum over all t of alpha_t sqrt(1 - theta_t) is finite: the algebra does not know its value."""
        return self.total is None or self.total.low.lead[1].is_constant

    @property
    def start(self) -> Band | None:
        """chi_1, as T grows: of a sequence it is just a number."""
        return point(germs.constant(ONE))


def rate_order(growth: Growth) -> Order | None:
    """The order of Theorem 2's bound, sqrt((C + C' sum) / (T alpha_T)); None where algebra does not tell."""
    total, reach = growth.total, growth.reach
    try:
        if total is None or reach is None:
            return None
        above = total.high.lead[1]
        above = above if above.against(CONSTANT) > 0 else CONSTANT
        return (above * reach.low.lead[1].to_the(_MINUS)).to_the(_HALF)
    except Unclear:
        return None


def leading(germ: germs.Germ) -> germs.Germ:
    """The leading term; of the others only that they are smaller."""
    if not germ.terms or (len(germ.terms) == 1 and germ.rest is None):
        return germ
    return germs.Germ(germ.terms[:1], germ.terms[0][1].smaller)


def quotient(above: Band | None, below: Band | None) -> Band | None:
    return known(lambda: above * below.to_the(_MINUS)) if above and below else None


def summed(band: Band) -> Band:
    """Partial sums of what is eventually positive."""
    if band.low.sign <= 0:
        raise Unclear
    return band.map(germs.partial_sums)


@dataclass(frozen=True)
class Factors:
    """f(t, T) = steps(t) * horizon(T) * shape(t/T)."""

    steps: Tree
    horizon: Tree
    progress: tuple[tuple[Tree, Number], ...] = ()

    def times(self, other: Factors) -> Factors:
        return Factors(
            ("*", self.steps, other.steps), ("*", self.horizon, other.horizon), self.progress + other.progress
        )

    def to_the(self, e: Number) -> Factors:
        exponent = number(float(e))
        progress = tuple((tree, f * e) for tree, f in self.progress)
        return Factors(("^", self.steps, exponent), ("^", self.horizon, exponent), progress)

    def span(self, end: float = 1.0) -> tuple[Band, bool]:
        """A band of constants around shape(t/T) for t <= end * T, and whether it never rises."""
        band, falls = point(germs.constant(ONE)), True
        for tree, e in self.progress:
            shape = shape_of(tree, 1, progress=end)
            low, high = germs.number(shape.range.low), germs.number(shape.range.high)
            band = band * Band(low, high).to_the(e) if shape.range.low > 0 else band * _vanishing(high, e)
            falls = falls and (shape.falling if e > 0 else shape.rising)
        return band, falls


def _vanishing(high: germs.Germ, e: Number) -> Band:
    if e < 0:
        raise Unclear
    return Band(germs.ZERO_GERM, high.to_the(e))


def factors_of(tree: Tree) -> Factors:
    """Splits a tree in t and T into factors.

    Raises:
        Unclear: it is no product of such.
    """
    one = number(1)
    if not mentions(tree, "T"):
        return Factors(tree, one)
    if not hides_step(tree, "left", "piecewise"):
        if not mentions(tree, "t"):
            return Factors(one, tree)
        if is_progress(tree) or not mentions(_without_progress(tree), "t") | mentions(_without_progress(tree), "T"):
            return Factors(one, one, ((tree, ONE),))
    head = tree[0]
    if head == "*":
        return factors_of(tree[1]).times(factors_of(tree[2]))
    if head == "/":
        return factors_of(tree[1]).times(factors_of(tree[2]).to_the(_MINUS))
    if head == "sqrt":
        return factors_of(tree[1]).to_the(_HALF)
    if head == "^" and tree[2][0] == "number":
        return factors_of(tree[1]).to_the(exact(tree[2][1]))
    raise Unclear


def _without_progress(tree: Tree) -> Tree:
    for whole in (STEP, ("-", STEP, number(1))):
        tree = replace(tree, ("/", whole, HORIZON), number(1))
    return tree


@dataclass(frozen=True)
class FamilyGrowth(Growth):
    """Of a family: everything as T grows, but `chi`, which is its factor of t alone."""

    @cached_property
    def factors(self) -> tuple[Factors, Factors] | None:
        """Those of alpha_t and of 1 - theta_t."""
        try:
            return factors_of(self.alpha), factors_of(self.complement)
        except (Unclear, OverflowError, ZeroDivisionError):
            return None

    @cached_property
    def chi(self) -> Band | None:
        """A band around chi_t up to a factor that depends on T alone; the factor of t/T may only fall or be bounded."""
        return known(self._chi)

    def _chi(self) -> Band:
        if self.factors is None:
            raise Unclear
        chi = self.factors[0].times(self.factors[1].to_the(-_HALF))
        span, falls = chi.span()
        steps = band_of(chi.steps)
        if not falls:
            return steps * span
        if chi.span(0.5)[0].low.is_zero:
            raise Unclear
        return steps

    @cached_property
    def start(self) -> Band | None:
        """chi_1, as T grows."""
        return known(
            lambda: (
                band_of(at_first_step(self.alpha), "T") * band_of(at_first_step(self.complement), "T").to_the(-_HALF)
            ),
        )

    @cached_property
    def reach(self) -> Band | None:
        """T alpha_T."""
        return known(lambda: point(T_GERM) * self._at(self.alpha, self.last))

    @cached_property
    def last(self) -> Tree:
        """The last t with alpha_t > 0: T, or T - 1 where alpha_T is zero."""
        at_end = known(lambda: self._at(self.alpha, HORIZON))
        return ("-", HORIZON, number(1)) if at_end is not None and at_end.low.is_zero else HORIZON

    @cached_property
    def total(self) -> Band | None:
        return known(self._total)

    def _total(self) -> Band:
        if self.factors is None:
            raise Unclear
        terms = self.factors[0].times(self.factors[1].to_the(_HALF))
        span, _ = terms.span()
        sums = summed(band_of(terms.steps))
        if span.is_point:
            return sums * span * band_of(terms.horizon, "T")
        low = sums.low * span.low
        if span.low.is_zero:  # the first half of a sum that grows like a power has a share that does not vanish
            order = sums.low.lead[1]
            if order.fast or order.a > 10:
                raise Unclear
            low = sums.low * terms.span(0.5)[0].low * germs.number(1e-6)
        return Band(low, sums.high * span.high) * band_of(terms.horizon, "T")

    @property
    def converges(self) -> bool:
        steps = self.factors and self.factors[0].times(self.factors[1].to_the(_HALF)).steps
        sums = known(lambda: summed(band_of(steps))) if steps else None
        return sums is None or sums.low.lead[1].is_constant

    def _at(self, tree: Tree, t: Tree) -> Band:
        """The tree at a late step: that of T's last piece; of a product that T decides the algebra knows nothing."""
        if hides_step(tree, "left"):
            raise Unclear
        return band_of(replace(tree, STEP, t), "T")
