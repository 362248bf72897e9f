"""Orders of growth, and numbers that stay exact for as long as they can.

An order is exp(sum_i k_i t^p_i) t^a (log t)^b (log log t)^d as t grows. Orders multiply, and any two can be
compared: that is what the verdicts rest on, so exponents are rational. 0.7 + 0.1 equals 0.8 here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

Number: TypeAlias = Fraction | float

ZERO, ONE = Fraction(0), Fraction(1)
_CLOSE = 1e-9  # irrational numbers closer than this are not told apart
_LONGEST = 4096  # bits of an exact power


class Unclear(Exception):
    """The algebra cannot tell; the caller falls back on numbers."""


def exact(value: float) -> Fraction:
    """The rational number that was meant by a float: the simplest that rounds to it, else its decimal digits.

    >>> exact(0.7) + exact(0.1) == exact(0.8), exact(1 / 3)
    (True, Fraction(1, 3))
    """
    if not math.isfinite(value):
        raise Unclear
    simple = Fraction(value).limit_denominator(10**6)
    return simple if float(simple) == value else Fraction(repr(float(value)))


def add(x: Number, y: Number) -> Number:
    """x + y; refuses where the sum of inexact numbers might be zero."""
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x + y
    total = _finite(float(x) + float(y))
    if abs(total) <= _CLOSE * max(abs(float(x)), abs(float(y))):
        raise Unclear
    return total


def multiply(x: Number, y: Number) -> Number:
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x * y
    return ZERO if x == 0 or y == 0 else _finite(float(x) * float(y))


def power(x: Number, y: Number) -> Number:
    """x**y for x > 0, or for whole y; exact where it can be."""
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        found = _exact_power(x, y)
        if found is not None:
            return found
    try:
        found = float(x) ** float(y)
    except (OverflowError, ZeroDivisionError):
        raise Unclear from None
    if isinstance(found, complex) or found == 0:
        raise Unclear
    return _finite(found)


def compare(x: Number, y: Number) -> int:
    """-1, 0 or 1; refuses where inexact numbers are too close."""
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return (x > y) - (x < y)
    if abs(float(x) - float(y)) <= _CLOSE * (1 + abs(float(x))):
        raise Unclear
    return 1 if x > y else -1


def _exact_power(x: Fraction, y: Fraction) -> Fraction | None:
    if abs(y.numerator) * max(x.numerator.bit_length(), x.denominator.bit_length()) > _LONGEST:
        return None
    if x == 0 and y < 0:
        raise Unclear
    whole = x**y.numerator
    if y.denominator == 1:
        return whole
    top, bottom = (_root(part, y.denominator) for part in (whole.numerator, whole.denominator))
    return Fraction(top, bottom) if top is not None and bottom is not None else None


def _root(number: int, degree: int) -> int | None:
    """The exact whole root, or None."""
    if number < 0 or degree > 64:
        return None
    guess = round(number ** (1 / degree)) if number < 1 << 500 else (math.isqrt(number) if degree == 2 else 0)
    return guess if guess**degree == number else None


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise Unclear
    return value


@dataclass(frozen=True, slots=True)
class Order:
    """exp(sum k t^p) t^a (log t)^b (log log t)^d.

    Args:
        fast: the pairs (p, k) of the exponential part, p > 0, largest p first.
        a, b, d: the exponents of t, log t and log log t.
        little: 1 says "smaller than that": o() rather than O(). Only rests have it.
    """

    fast: tuple[tuple[Fraction, Number], ...] = ()
    a: Number = ZERO
    b: Number = ZERO
    d: Number = ZERO
    little: int = 0

    def __mul__(self, other: Order) -> Order:
        fast = dict(self.fast)
        for p, k in other.fast:
            before = fast.get(p, ZERO)
            fast[p] = ZERO if before == -k else add(before, k)
        return Order(
            tuple(sorted(((p, k) for p, k in fast.items() if k != 0), reverse=True)),
            add(self.a, other.a), add(self.b, other.b), add(self.d, other.d), self.little | other.little,
        )  # fmt: skip

    def to_the(self, e: Number) -> Order:
        """The order's power."""
        if e == 0:
            return Order()
        fast = tuple((p, multiply(k, e)) for p, k in self.fast)
        return Order(fast, multiply(self.a, e), multiply(self.b, e), multiply(self.d, e), self.little)

    def against(self, other: Order) -> int:
        """1 where this grows faster than `other`, 0 where they are equal, -1 where slower."""
        if self.fast != other.fast:
            mine, its = dict(self.fast), dict(other.fast)
            for p in sorted({*mine, *its}, reverse=True):
                sign = compare(mine.get(p, ZERO), its.get(p, ZERO)) if mine.get(p) != its.get(p) else 0
                if sign:
                    return sign
        for x, y in ((self.a, other.a), (self.b, other.b), (self.d, other.d)):
            sign = 0 if x is y else compare(x, y)
            if sign:
                return sign
        return other.little - self.little

    @property
    def is_constant(self) -> bool:
        return not self.fast and self.a == self.b == self.d == 0

    @property
    def smaller(self) -> Order:
        """o(this)."""
        return Order(self.fast, self.a, self.b, self.d, 1)


CONSTANT = Order()
