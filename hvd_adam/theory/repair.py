"""The nearest change that passes: candidates made from what failed, each judged again by algebra."""

from __future__ import annotations

import dataclasses
import math
import re
from itertools import product
from typing import Iterable, Iterator, Sequence

from hvd_adam.errors import ConfigError
from hvd_adam.schedules import (
    BiasCorrected,
    Constant,
    CosineDecay,
    Expression,
    HorizonAlpha,
    LinearDecay,
    PolynomialTheta,
    Power,
    Product,
    Schedule,
    parse,
)
from hvd_adam.theory.bands import band_of
from hvd_adam.theory.clauses import beta_clause, chi_clause, ratio_clause, theta_clause
from hvd_adam.theory.growth import known
from hvd_adam.theory.orders import ZERO, Number
from hvd_adam.theory.subject import Subject
from hvd_adam.theory.trees import Tree, complement_of, tree_of
from hvd_adam.theory.verdict import Clause, Repair
from hvd_adam.theory.wording import rate_text

_USUAL_BETA, _USUAL_GAP = 0.9, 0.001
_GENTLE = 0.5  # the exponent r of a theta_t that did not tend to 1
_SHARE = 0.1  # of the start, where a decay that ended at 0 may end

Candidate = tuple[int, Schedule]  # how far from what was given, and the schedule


def nearest_repair(subject: Subject, clauses: Sequence[Clause]) -> Repair | None:
    """The passing neighbour with the fewest schedules changed, and those the least; None where none was found."""
    inner = subject.alpha.alpha if isinstance(subject.alpha, BiasCorrected) else subject.alpha
    betas = [c for c in _betas(subject.beta) if beta_clause(_with(subject, beta=c[1])).holds]
    thetas = [c for c in _thetas(subject, inner, clauses[1]) if theta_clause(_with(subject, theta=c[1])).holds]
    alphas = list(_alphas(subject, inner))
    for chosen in sorted(product(alphas, betas, thetas), key=_distance):
        (_, alpha), (_, beta), (_, theta) = chosen
        if isinstance(subject.alpha, BiasCorrected):
            tried = _with(subject, alpha=BiasCorrected(alpha, beta, theta), beta=beta, theta=theta)
        else:
            tried = _with(subject, alpha=alpha, beta=beta, theta=theta)
        if chi_clause(tried).holds and ratio_clause(tried).holds:
            return _said(((inner, alpha), (subject.beta, beta), (subject.theta, theta)), rate_text(tried.growth))
    return None


def _with(subject: Subject, **schedules: Schedule) -> Subject:
    return dataclasses.replace(subject, look=False, **schedules)  # type: ignore[arg-type]


def _distance(chosen: tuple[Candidate, ...]) -> tuple[int, int]:
    return sum(far > 0 for far, _ in chosen), sum(far for far, _ in chosen)


def _said(pairs: Iterable[tuple[Schedule, Schedule]], rate: str) -> Repair:
    named = zip(("alpha_t", "beta_t", "theta_t"), pairs, strict=True)
    changes = tuple((name, str(new)) for name, (old, new) in named if old != new)
    return Repair(changes, rate, f"checked again: holds, O({rate})" if rate else "checked again: holds")


def _betas(beta: Schedule) -> Iterator[Candidate]:
    yield 0, beta
    if isinstance(beta, Expression):
        yield from _parsed(1, f"max(0, min({beta.text}, 0.99))")
    yield 2, Constant(_USUAL_BETA)


def _thetas(subject: Subject, alpha: Schedule, clause: Clause) -> Iterator[Candidate]:
    theta = subject.theta
    yield 0, theta
    if clause.resumes:
        yield from _held(theta, clause.resumes)
    s, r = _decay_of(tree_of(alpha)), _decay_of(complement_of(tree_of(theta)))
    gap = _gap(subject)
    largest = 2 * s if s is not None and s > 0 else None
    if isinstance(theta, PolynomialTheta) and largest is not None:
        yield 1, dataclasses.replace(theta, exponent=float(largest))
    if not r:  # theta_t does not tend to 1, or not in a way that is understood
        gentle = min(_GENTLE, float(largest)) if largest is not None else _GENTLE
        yield 2, PolynomialTheta(gap, gentle)
    elif largest is not None:
        yield 3, PolynomialTheta(gap, float(largest))
    yield 4, PolynomialTheta(gap, _GENTLE)
    yield 5, PolynomialTheta(_USUAL_GAP, _GENTLE)


def _held(theta: Schedule, first: int) -> Iterator[Candidate]:
    """theta_t kept at the value of t = `first` until then: the K of equation (8)."""
    if isinstance(theta, PolynomialTheta):
        yield 1, dataclasses.replace(theta, start=max(first, theta.start))
    if isinstance(theta, Expression):
        yield from _parsed(1, re.sub(r"(?<!\w)t(?!\w)", f"max(t, {first})", theta.text))


def _alphas(subject: Subject, alpha: Schedule) -> Iterator[Candidate]:
    yield 0, alpha
    s, r = _decay_of(tree_of(alpha)), _decay_of(subject.complement_tree)
    if isinstance(alpha, (LinearDecay, CosineDecay)) and alpha.end < _SHARE * alpha.start:
        alpha = dataclasses.replace(alpha, end=_short(_SHARE * alpha.start))
        yield 1, alpha
        s = ZERO
    for far, wanted in ((2, r / 2 if r else None), (3, _GENTLE / 2), (4, 0.5)):
        if wanted is not None and s is not None and wanted > s and wanted < 1:
            yield far, _steeper(alpha, float(wanted), float(wanted - s))
    first = _value_at_start(alpha, subject.steps)
    if subject.theta.needs_horizon:
        yield 2, HorizonAlpha(_short(first * math.sqrt(subject.steps)))
    yield 5, Power(first, 0.5)


def _steeper(alpha: Schedule, exponent: float, more: float) -> Schedule:
    """alpha_t times t^-more."""
    if isinstance(alpha, Constant):
        return Power(alpha.value, exponent)
    if isinstance(alpha, Power):
        return Power(alpha.scale, exponent)
    if isinstance(alpha, Expression):
        return Expression(f"({alpha.text})/t^{more:g}", alpha.horizon)
    return Product((alpha, Power(1.0, more)))


def _decay_of(tree: Tree) -> Number | None:
    """The exponent e of c t^-e; None where the tree is nothing of the kind."""
    band = known(lambda: band_of(tree))
    if band is None or band.high.is_zero or not band.high.terms:
        return None
    order = band.high.lead[1]
    return None if order.fast else -order.a


def _gap(subject: Subject) -> float:
    """1 - theta at the first step where that lies in (0, 1), else a usual value."""
    theta = subject.theta.with_horizon(subject.steps)
    for t in (1, 2, 10, 100):
        gap = _short(theta.complement(t))
        if 0 < gap < 1:
            return gap
    return _USUAL_GAP


def _value_at_start(alpha: Schedule, steps: int) -> float:
    value = alpha.with_horizon(steps)(1)
    return _short(value) if 0 < value < float("inf") else 0.001


def _short(value: float) -> float:
    """Six digits, to be read."""
    return float(f"{value:.6g}")


def _parsed(far: int, text: str) -> Iterator[Candidate]:
    try:
        yield far, parse(text)
    except ConfigError:  # too long or too deep by now
        return
