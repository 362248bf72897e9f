"""What a function of t becomes as t grows: a few terms c t^a (log t)^b ..., and the order of what is left.

Sums, products, powers, exp, log and cos of such expansions are expansions again. Where the terms that are
kept cancel, or a step leaves the algebra (t^t, log log log t), `Unclear` is raised: no guess is made.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Callable, Iterable, Sequence

from hvd_adam.theory.orders import CONSTANT, ONE, ZERO, Number, Order, Unclear, add, exact, multiply, power
from hvd_adam.theory.orders import compare as compare_numbers

_KEPT = 6  # terms
_SERIES = 4  # powers of the small part that a power series keeps

Term = tuple[Number, Order]


@dataclass(frozen=True, slots=True)
class Germ:
    """terms + O(rest), the largest term first; rest None says that nothing is left."""

    terms: tuple[Term, ...] = ()
    rest: Order | None = None

    @property
    def lead(self) -> Term:
        """The largest term.

        Raises:
            Unclear: no term is known.
        """
        if not self.terms:
            raise Unclear
        return self.terms[0]

    @property
    def is_zero(self) -> bool:
        """Exactly zero from some t on."""
        return not self.terms and self.rest is None

    @property
    def sign(self) -> int:
        """The sign that it has from some t on."""
        return 0 if self.is_zero else (1 if self.lead[0] > 0 else -1)

    @property
    def is_exact_constant(self) -> bool:
        return self.rest is None and all(order.is_constant for _, order in self.terms)

    def __add__(self, other: Germ) -> Germ:
        return _collect((*self.terms, *other.terms), _largest((self.rest, other.rest)))

    def __neg__(self) -> Germ:
        return Germ(tuple((-c, order) for c, order in self.terms), self.rest)

    def __sub__(self, other: Germ) -> Germ:
        return self + (-other)

    def __mul__(self, other: Germ) -> Germ:
        if self.is_zero or other.is_zero:
            return ZERO_GERM
        terms = [(multiply(c, k), one * two) for c, one in self.terms for k, two in other.terms]
        rests = [self.rest and self.rest * other.size, other.rest and other.rest * self.size]
        return _collect(terms, _largest(rests))

    @property
    def size(self) -> Order:
        """An order that it does not exceed."""
        if self.terms:
            return self.terms[0][1]
        if self.rest is None:
            raise Unclear
        return self.rest

    def to_the(self, e: Number) -> Germ:
        """The power with a constant exponent; of a positive germ, or whole.

        Raises:
            Unclear: zero, or a root of what is negative.
        """
        c, order = self.lead
        whole = isinstance(e, Fraction) and e.denominator == 1
        if c < 0 and not whole:
            raise Unclear
        if whole and 0 < e < 4:
            return functools.reduce(Germ.__mul__, [self] * int(e))
        front = Germ(((power(c, e), order.to_the(e)),))
        coefficients: list[Number] = [ONE]
        for n in range(1, _SERIES):
            step = add(e, Fraction(1 - n)) if e != n - 1 else ZERO
            coefficients.append(multiply(coefficients[-1], multiply(step, Fraction(1, n))))
        return front * _series(self.small_part(), coefficients)

    def small_part(self) -> Germ:
        """delta, where this is lead * (1 + delta)."""
        c, order = self.lead
        inverse = order.to_the(Fraction(-1))
        factor = 1 / c
        terms = tuple((multiply(k, factor), o * inverse) for k, o in self.terms[1:])
        return Germ(terms, self.rest and self.rest * inverse)


ZERO_GERM = Germ()


def constant(value: Number) -> Germ:
    return Germ(((value, CONSTANT),)) if value != 0 else ZERO_GERM


def number(value: float) -> Germ:
    return constant(exact(value))


T_GERM = Germ(((ONE, Order(a=ONE)),))


def compare(one: Germ, two: Germ) -> int:
    """The sign of one - two from some t on; 0, too, where the two say the same."""
    return 0 if one == two else (one - two).sign


def exp(germ: Germ) -> Germ:
    """Terms that grow must be powers of t, log t or log log t; the others become factors and a series."""
    growing, level, small = _split(germ)
    front = Germ(((_exp_of(level), CONSTANT),))
    for c, order in growing:
        front = front * Germ(((ONE, _exponential(c, order)),))
    return front * _series(small, [Fraction(1, math.factorial(n)) for n in range(_SERIES)])


def log(germ: Germ) -> Germ:
    c, order = germ.lead
    if c < 0 or order.d != 0:
        raise Unclear
    terms: list[Term] = [(k, Order(a=p)) for p, k in order.fast]
    terms += [(order.a, Order(b=ONE)), (order.b, Order(d=ONE))]
    terms.append((ZERO if c == 1 else math.log(c), CONSTANT))
    series: list[Number] = [ZERO, *(Fraction((-1) ** (n + 1), n) for n in range(1, _SERIES))]
    return _collect(terms, None) + _series(germ.small_part(), series)


def cos(germ: Germ) -> Germ:
    """The cosine of what tends to a constant."""
    growing, level, small = _split(germ)
    if growing:
        raise Unclear
    even = _series(small, [ONE, ZERO, Fraction(-1, 2), ZERO])
    odd = _series(small, [ZERO, ONE, ZERO, Fraction(-1, 6)])
    return constant(_turn(level)) * even - constant(_turn(level, quarter=1)) * odd


def partial_sums(germ: Germ) -> Germ:
    """sum_{t<=T} of an eventually positive germ, as T grows: leading term only.

    Where the series converges its value is not known here: the coefficient is 1, and only the order counts.

    Raises:
        Unclear: 1/(t log t log log t) and beyond.
    """
    c, order = germ.lead
    if order.fast:
        p, k = order.fast[0]
        if k < 0:
            return Germ(((1.0, CONSTANT),), CONSTANT.smaller)
        if p >= 1:  # the last terms are all that counts
            return _leading(multiply(c, 1.0 / (1.0 - math.exp(-float(k))) if p == 1 else ONE), order)
        return _leading(multiply(c, 1 / multiply(k, p)), order * Order(a=1 - p))
    scales = (order.a, order.b, order.d)  # t, log t, log log t: the integral raises the first that is not -1
    first = next((i for i, exponent in enumerate(scales) if compare_numbers(exponent, -ONE) != 0), None)
    if first is None:
        raise Unclear
    if scales[first] < -1:
        return Germ(((1.0, CONSTANT),), CONSTANT.smaller)
    raised = add(scales[first], ONE)
    a, b, d = (ZERO,) * first + (raised,) + scales[first + 1 :]
    return _leading(multiply(c, 1 / raised), Order(a=a, b=b, d=d))


def _leading(c: Number, order: Order) -> Germ:
    return Germ(((c, order),), order.smaller)


def _collect(terms: Iterable[Term], rest: Order | None) -> Germ:
    """Like terms together, sorted, at most _KEPT of them."""
    found: dict[Order, Number] = {}
    for c, order in terms:
        if c != 0 and (rest is None or order.against(rest) > 0):
            found[order] = add(found[order], c) if order in found else c
    by_size = sorted(found, key=functools.cmp_to_key(Order.against), reverse=True)
    kept = [order for order in by_size if found[order] != 0]
    if len(kept) > _KEPT:
        rest = _largest((rest, kept[_KEPT]))
        kept = kept[:_KEPT]
    return Germ(tuple((found[order], order) for order in kept), rest)


def _largest(orders: Iterable[Order | None]) -> Order | None:
    largest: Order | None = None
    for order in orders:
        if order is not None and (largest is None or order.against(largest) > 0):
            largest = order
    return largest


def _series(small: Germ, coefficients: Sequence[Number]) -> Germ:
    """sum_n coefficients[n] small^n + O(small^N), for a small part that tends to 0."""
    total, term = constant(coefficients[0]), constant(ONE)
    if small.is_zero:
        return total
    size = small.size
    if size.against(CONSTANT) >= 0:
        raise Unclear
    for c in coefficients[1:]:
        term = term * small
        total = total + term * constant(c)
    left = size.to_the(Fraction(len(coefficients)))
    return total + Germ((), left)


def _split(germ: Germ) -> tuple[list[Term], Number, Germ]:
    """Terms that grow, the constant term, and the part that tends to 0."""
    if germ.rest is not None and germ.rest.against(CONSTANT) >= 0:
        raise Unclear
    growing = [term for term in germ.terms if term[1].against(CONSTANT) > 0]
    level: Number = ZERO
    small = []
    for c, order in germ.terms[len(growing) :]:
        if order.is_constant:
            level = c
        else:
            small.append((c, order))
    return growing, level, Germ(tuple(small), germ.rest)


def _exponential(c: Number, order: Order) -> Order:
    """exp(c * order) as an order."""
    if order == Order(b=ONE):
        return Order(a=c)
    if order == Order(d=ONE):
        return Order(b=c)
    if order.fast or order.b != 0 or order.d != 0 or not isinstance(order.a, Fraction):
        raise Unclear
    return Order(fast=((order.a, c),))


def _exp_of(level: Number) -> Number:
    if level == 0:
        return ONE
    if abs(float(level)) > 600:
        raise Unclear
    return math.exp(float(level))


def _turn(level: Number, quarter: int = 0) -> Number:
    """cos (quarter 0) or sin (1), exact at multiples of pi/2."""
    turns = float(level) / (math.pi / 2)
    if abs(turns - round(turns)) <= 1e-14 * max(1.0, abs(turns)):
        return Fraction((1, 0, -1, 0)[(round(turns) - quarter) % 4])
    function: Callable[[float], float] = math.sin if quarter else math.cos
    return function(float(level))
