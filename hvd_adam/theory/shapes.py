"""Where a tree lies and which way it goes, for every t of an interval: interval arithmetic with directions.

For each node: bounds, whether they are reached, whether it never falls or never rises, and bounds of its
elasticity t f'(t)/f(t). The elasticity settles products of a rising and a falling part, such as log(t)/t.
What it says holds for every real t of the interval, hence for every step. Bounds are float64, not rounded
outwards: an inequality counts only where it holds by more than rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Callable

import numpy as np

from hvd_adam.theory.orders import Unclear
from hvd_adam.theory.trees import Tree, complement_of, is_progress

_MARGIN = 1e-14  # relative; rounding of a few operations
_INF = math.inf


@dataclass(frozen=True, slots=True)
class Interval:
    """[low, high]; an open end is not reached."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    @property
    def is_positive(self) -> bool:
        """> 0 throughout, by more than rounding unless 0 is an open end."""
        return self.low > _MARGIN * min(1.0, abs(self.high)) or (self.low == 0 and self.low_open)

    @property
    def is_nonnegative(self) -> bool:
        return self.low >= 0

    def below(self, bound: float) -> bool:
        """< bound throughout."""
        return self.high < bound - _MARGIN * abs(bound) or (self.high == bound and self.high_open)

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low, self.high_open, self.low_open)

    def __add__(self, other: Interval) -> Interval:
        return _interval(
            self.low + other.low,
            self.high + other.high,
            self.low_open or other.low_open,
            self.high_open or other.high_open,
        )

    def __mul__(self, other: Interval) -> Interval:
        ends = [
            (_times(x, y), (x_open and y != 0) or (y_open and x != 0) or (x_open and y_open))
            for x, x_open in ((self.low, self.low_open), (self.high, self.high_open))
            for y, y_open in ((other.low, other.low_open), (other.high, other.high_open))
        ]
        low, high = min(value for value, _ in ends), max(value for value, _ in ends)
        return _interval(
            low, high, all(o for value, o in ends if value == low), all(o for value, o in ends if value == high)
        )

    def inverse(self) -> Interval:
        """1/x, where 0 is not inside."""
        if self.low > 0 or (self.low == 0 and self.low_open and self.high > 0):
            low = _INF if self.low == 0 else 1 / self.low
            return _interval(1 / self.high, low, self.high_open, self.low_open)
        if self.high < 0 or (self.high == 0 and self.high_open and self.low < 0):
            return -((-self).inverse())
        raise Unclear

    def hull(self, other: Interval) -> Interval:
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Interval(
            low, high,
            all(i.low_open for i in (self, other) if i.low == low),
            all(i.high_open for i in (self, other) if i.high == high),
        )  # fmt: skip


def _interval(low: float, high: float, low_open: bool = False, high_open: bool = False) -> Interval:
    if math.isnan(low) or math.isnan(high):
        raise Unclear
    return Interval(low, high, low_open or low == -_INF, high_open or high == _INF)


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a function on an interval of t.

    Attributes:
        range: where its values lie.
        rising: it is known never to fall; falling: never to rise; a constant is both.
        elasticity: bounds of t f'/f, where f has one sign and they are known.
    """

    range: Interval
    rising: bool = False
    falling: bool = False
    elasticity: Interval | None = None

    @property
    def is_constant(self) -> bool:
        return self.rising and self.falling


_FLAT = Interval(0.0, 0.0)


@lru_cache(maxsize=4096)
def shape_of(tree: Tree, first: float, last: float = _INF, horizon: float = 1.0, progress: float = 1.0) -> Shape:
    """The shape on first <= t <= last, for every T >= horizon where T occurs, and t <= progress * T.

    Raises:
        Unclear: a division by what may be 0, a root or logarithm of what may be negative, or no tree.
    """
    domain = _Domain(_interval(first, last), _interval(horizon, _INF), progress)
    try:
        with np.errstate(all="ignore"):
            return domain.shape(tree)
    except (OverflowError, ZeroDivisionError):
        raise Unclear from None


@dataclass(frozen=True, slots=True)
class _Domain:
    t: Interval
    horizon: Interval
    progress: float

    def over(self, low: float, high: float) -> _Domain:
        """The same over other steps."""
        return _Domain(_interval(low, high), self.horizon, self.progress)

    def shape(self, tree: Tree) -> Shape:
        rest = []
        while tree[0] in ("+", "-", "*", "/") and not is_progress(tree):
            rest.append((tree[0], tree[2]))
            tree = tree[1]
        found = self._leaf(tree)
        for sign, right in reversed(rest):
            found = _OPERATIONS[sign](found, self.shape(right))
        return found

    def _leaf(self, tree: Tree) -> Shape:
        head = tree[0]
        if head == "number":
            return _flat(Interval(tree[1], tree[1]))
        if head == "t":
            return Shape(self.t, rising=True, elasticity=Interval(1.0, 1.0))
        if head == "T":
            return _flat(self.horizon)
        if is_progress(tree):
            whole = tree[1] == ("t",)
            return Shape(
                Interval(0.0, self.progress, low_open=whole, high_open=not whole),
                rising=True,
                elasticity=Interval(1.0, 1.0) if whole else None,
            )
        if head == "piecewise":
            return self._piecewise(tree)
        if head == "left":
            return self._left(tree)
        if head in _FUNCTIONS:
            return _FUNCTIONS[head](*(self.shape(part) for part in tree[1:]))
        raise Unclear

    def _piecewise(self, tree: Tree) -> Shape:
        starts = [1, *(boundary + 1 for boundary in tree[1])]
        ends = [*tree[1], _INF]
        pieces = []
        for start, end, piece in zip(starts, ends, tree[2], strict=True):
            low, high = max(start, self.t.low), min(end, self.t.high)
            if low <= high:
                pieces.append(self.over(low, high).shape(piece))
        found = pieces[0]
        for piece in pieces[1:]:
            rises = piece.range.low >= found.range.high
            falls = piece.range.high <= found.range.low
            found = Shape(
                found.range.hull(piece.range),
                found.rising and piece.rising and rises,
                found.falling and piece.falling and falls,
            )
        return found

    def _left(self, tree: Tree) -> Shape:
        """1 - prod theta_i: rises from 1 - theta_1 towards at most 1, where theta lies in [0, 1)."""
        complement = self.over(1, _INF).shape(complement_of(tree[1])).range
        if not (complement.is_positive and complement.high <= 1):
            raise Unclear
        first = self.over(1, 1).shape(complement_of(tree[1])).range
        return Shape(Interval(first.low, 1.0, first.low_open), rising=True)


def _flat(range_: Interval) -> Shape:
    return Shape(range_, rising=True, falling=True, elasticity=_FLAT)


def _negative(f: Shape) -> Shape:
    return Shape(-f.range, f.falling, f.rising, f.elasticity)


def _add(f: Shape, g: Shape) -> Shape:
    range_ = f.range + g.range
    rising, falling = f.rising and g.rising, f.falling and g.falling
    elasticity = None
    if f.elasticity and g.elasticity:
        if (f.range.is_nonnegative and g.range.is_nonnegative) or (f.range.high <= 0 and g.range.high <= 0):
            elasticity = f.elasticity.hull(g.elasticity)
        else:
            elasticity = _or_none(lambda: (_slope(f) + _slope(g)) * range_.inverse())
        slope = _or_none(lambda: _slope(f) + _slope(g))
        if slope:
            rising, falling = rising or slope.low >= 0, falling or slope.high <= 0
    return Shape(range_, rising, falling, elasticity)


def _slope(f: Shape) -> Interval:
    """t f'(t)."""
    assert f.elasticity is not None
    return f.range * f.elasticity


def _or_none(make: Callable[[], Interval]) -> Interval | None:
    try:
        return make()
    except Unclear:
        return None


def _multiply(f: Shape, g: Shape) -> Shape:
    range_ = f.range * g.range
    elasticity = _or_none(lambda: f.elasticity + g.elasticity) if f.elasticity and g.elasticity else None  # type: ignore[operator]
    rising = falling = False
    for one, other in ((f, g), (g, f)):
        if one.is_constant and one.range.is_nonnegative:
            rising, falling = rising or other.rising, falling or other.falling
        elif one.is_constant and one.range.high <= 0:
            rising, falling = rising or other.falling, falling or other.rising
    if f.range.is_nonnegative and g.range.is_nonnegative:
        rising, falling = rising or (f.rising and g.rising), falling or (f.falling and g.falling)
        if elasticity:
            rising, falling = rising or elasticity.low >= 0, falling or elasticity.high <= 0
    return Shape(range_, rising, falling, elasticity)


def _inverse(f: Shape) -> Shape:
    return Shape(f.range.inverse(), f.falling, f.rising, -f.elasticity if f.elasticity else None)


def _map(f: Shape, function: Callable[[float], float], elasticity: Interval | None, falls: bool = False) -> Shape:
    """The image under a monotone function."""
    low, high = function(f.range.low), function(f.range.high)
    if falls:
        return Shape(_interval(high, low, f.range.high_open, f.range.low_open), f.falling, f.rising, elasticity)
    return Shape(_interval(low, high, f.range.low_open, f.range.high_open), f.rising, f.falling, elasticity)


def _power(f: Shape, g: Shape) -> Shape:
    if g.is_constant and g.range.low == g.range.high:
        return _constant_power(f, g.range.low)
    return _exp(_multiply(g, _log(f)))


def _constant_power(f: Shape, e: float) -> Shape:
    if e == 0:
        return _flat(Interval(1.0, 1.0))
    if not f.range.is_nonnegative:
        if e == 2:
            top = max(f.range.low**2, f.range.high**2)
            return Shape(_interval(0.0, top))
        raise Unclear
    if e < 0 and f.range.low == 0 and not f.range.low_open:
        raise Unclear
    elasticity = Interval(e, e) * f.elasticity if f.elasticity else None

    def to_the(x: float) -> float:
        if x in (0.0, _INF):
            return _INF if (x == 0) == (e < 0) else 0.0
        return x**e

    return _map(f, to_the, elasticity, falls=e < 0)


def _exp(f: Shape) -> Shape:
    elasticity = _or_none(lambda: _slope(f)) if f.elasticity else None
    found = _map(f, lambda x: float(np.exp(x)), elasticity)
    if found.range.high == 0:  # an underflow, from which no slope is to be read
        raise Unclear
    low_open = found.range.low_open or found.range.low == 0  # exp is never 0: an underflow
    range_ = Interval(found.range.low, found.range.high, low_open, found.range.high_open)
    return Shape(range_, found.rising, found.falling, elasticity)


def _log(f: Shape) -> Shape:
    if not (f.range.low > 0 or (f.range.low == 0 and f.range.low_open)):
        raise Unclear
    found = _map(f, lambda x: -_INF if x == 0 else math.log(x), None)
    elasticity = _or_none(lambda: f.elasticity * found.range.inverse()) if f.elasticity else None  # type: ignore[operator]
    return Shape(found.range, found.rising, found.falling, elasticity)


def _cos(f: Shape) -> Shape:
    if f.range.low >= 0 and f.range.high <= math.pi * (1 + _MARGIN):
        return _map(f, math.cos, None, falls=True)
    return Shape(Interval(-1.0, 1.0))


def _extreme(choose: Callable[[float, float], float]) -> Callable[[Shape, Shape], Shape]:
    def extreme(f: Shape, g: Shape) -> Shape:
        for one, other in ((f, g), (g, f)):
            if one.range.high <= other.range.low:  # one is never above the other
                return one if choose is min else other
        low, high = choose(f.range.low, g.range.low), choose(f.range.high, g.range.high)
        low_opens = [h.range.low_open for h in (f, g) if h.range.low == low]
        high_opens = [h.range.high_open for h in (f, g) if h.range.high == high]
        opens = (all(low_opens), any(high_opens)) if choose is min else (any(low_opens), all(high_opens))
        elasticity = f.elasticity.hull(g.elasticity) if f.elasticity and g.elasticity else None
        return Shape(Interval(low, high, *opens), f.rising and g.rising, f.falling and g.falling, elasticity)

    return extreme


def _floor(f: Shape) -> Shape:
    if not math.isfinite(f.range.low):
        raise Unclear
    high = math.floor(f.range.high) if math.isfinite(f.range.high) else _INF
    return Shape(_interval(math.floor(f.range.low), high), f.rising, f.falling)


_OPERATIONS: dict[str, Callable[[Shape, Shape], Shape]] = {
    "+": _add,
    "-": lambda f, g: _add(f, _negative(g)),
    "*": _multiply,
    "/": lambda f, g: _multiply(f, _inverse(g)),
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "^": _power,
    "negative": _negative,
    "sqrt": lambda f: _constant_power(f, 0.5),
    "exp": _exp,
    "log": _log,
    "cos": _cos,
    "min": _extreme(min),
    "max": _extreme(max),
    "floor": _floor,
}
