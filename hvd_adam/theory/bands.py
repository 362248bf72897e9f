"""Interval arithmetic with germs: a tree lies between two expansions from some t on.

Most trees are their own expansion, and the band is a point. cos of what grows lies in [-1, 1], floor(x) in
[x - 1, x]; everything else follows by the rules of interval arithmetic, since germs can be compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Callable

from hvd_adam.theory import germs, orders
from hvd_adam.theory.germs import Germ
from hvd_adam.theory.orders import ONE, Number, Unclear, exact
from hvd_adam.theory.trees import Tree, complement_of


@dataclass(frozen=True, slots=True)
class Band:
    """low <= function <= high from some t on."""

    low: Germ
    high: Germ

    @property
    def is_point(self) -> bool:
        return self.low is self.high

    def map(self, function: Callable[[Germ], Germ], falling: bool = False) -> Band:
        """The image under a monotone function."""
        if self.is_point:
            return point(function(self.low))
        ends = function(self.low), function(self.high)
        return Band(*reversed(ends)) if falling else Band(*ends)

    def __add__(self, other: Band) -> Band:
        low = self.low + other.low
        return Band(low, low if self.is_point and other.is_point else self.high + other.high)

    def __neg__(self) -> Band:
        return self.map(Germ.__neg__, falling=True)

    def __mul__(self, other: Band) -> Band:
        if self.is_point or other.is_point:
            factor, band = (self.low, other) if self.is_point else (other.low, self)
            return band.map(lambda germ: germ * factor, falling=factor.sign < 0)
        if self.low.sign >= 0 and other.low.sign >= 0:
            return Band(self.low * other.low, self.high * other.high)
        ends = [x * y for x in (self.low, self.high) for y in (other.low, other.high)]
        low = high = ends[0]
        for end in ends[1:]:
            low = end if germs.compare(end, low) < 0 else low
            high = end if germs.compare(end, high) > 0 else high
        return Band(low, high)

    def to_the(self, e: Number) -> Band:
        """The power with a constant exponent; a band that is no point must be positive."""
        if not self.is_point and self.low.sign <= 0:
            raise Unclear
        return self.map(lambda germ: germ.to_the(e), falling=e < 0)


def point(germ: Germ) -> Band:
    return Band(germ, germ)


_SOME = 0.5  # a positive constant that is not worked out: it only ever multiplies, and orders alone count then
_UNIT = Band(germs.constant(-ONE), germs.constant(ONE))


@lru_cache(maxsize=4096)
def band_of(tree: Tree, variable: str = "t") -> Band:
    """The band of a tree as `variable` ("t" or "T") grows.

    Raises:
        Unclear: the tree leaves the algebra, or mentions the other variable.
    """
    rest = []
    while tree[0] in ("+", "-", "*", "/"):  # a long sum leans to the left: no recursion along it
        rest.append((tree[0], tree[2]))
        tree = tree[1]
    found = _leaf(tree, variable)
    for sign, right in reversed(rest):
        found = _operate(sign, found, band_of(right, variable))
    return found


def _operate(sign: str, left: Band, right: Band) -> Band:
    if sign in "+-":
        return left + (right if sign == "+" else -right)
    return left * (right if sign == "*" else _inverse(right))


def _inverse(band: Band) -> Band:
    if band.low.sign < 0 < -band.high.sign:
        return -((-band).to_the(-ONE))
    if band.is_point and band.low.is_zero:
        raise Unclear
    return band.to_the(-ONE)


def _leaf(tree: Tree, variable: str) -> Band:
    head = tree[0]
    if head == "number":
        return point(germs.number(tree[1]))
    if head == variable:
        return point(germs.T_GERM)
    if head == "piecewise":
        return band_of(tree[2][-1], variable)
    if head in _FUNCTIONS:
        return _FUNCTIONS[head](*(band_of(part, variable) for part in tree[1:]))
    if head == "left":
        return _left(tree[1], variable)
    raise Unclear


def _power(base: Band, exponent: Band) -> Band:
    e = exponent.low
    if exponent.is_point and e.is_exact_constant:
        value = e.terms[0][0] if e.terms else orders.ZERO
        if base.is_point and base.low.is_zero and value > 0:
            return base
        return base.to_the(value)
    return (base.map(germs.log) * exponent).map(germs.exp)


def _cos(inside: Band) -> Band:
    try:
        return point(germs.cos(inside.low)) if inside.is_point else _UNIT
    except Unclear:
        return _UNIT


def _extreme(sign: int) -> Callable[[Band, Band], Band]:
    def choose(one: Germ, two: Germ) -> Germ:
        return one if germs.compare(one, two) * sign >= 0 else two

    def extreme(one: Band, two: Band) -> Band:
        low = choose(one.low, two.low)
        return Band(low, low if one.is_point and two.is_point else choose(one.high, two.high))

    return extreme


def _floor(inside: Band) -> Band:
    if inside.is_point and inside.low.is_exact_constant:
        value = inside.low.terms[0][0] if inside.low.terms else orders.ZERO
        return point(germs.constant(orders.Fraction(math.floor(value))))
    return Band(inside.low - germs.constant(ONE), inside.high)


def _left(theta: Tree, variable: str) -> Band:
    """1 - prod theta_i, theta in [0, 1): tends to 1 where sum (1 - theta_i) diverges, else to another constant."""
    complement = band_of(complement_of(theta), variable)
    if complement.low.sign <= 0:
        raise Unclear
    total = germs.partial_sums(complement.low)
    limit = _SOME if total.lead[1].is_constant else ONE
    return point(Germ(((limit, orders.CONSTANT),), orders.CONSTANT.smaller))


_FUNCTIONS: dict[str, Callable[..., Band]] = {
    "^": _power,
    "negative": Band.__neg__,
    "sqrt": lambda x: x.to_the(exact(0.5)) if not x.low.is_zero else x,
    "exp": lambda x: x.map(germs.exp),
    "log": lambda x: x.map(germs.log),
    "cos": _cos,
    "min": _extreme(-1),
    "max": _extreme(1),
    "floor": _floor,
}
