"""Will it converge? The sufficient condition of Corollary 9 (Chen et al. 2022, p. 10), judged.

    1. 0 <= beta_t <= beta < 1
    2. 0 < theta_t < 1, theta_t non-decreasing
    3. chi_t = alpha_t / sqrt(1 - theta_t) almost non-increasing:  a_t <= chi_t <= C_0 a_t,  a_t non-increasing
    4. sum_{t<=T} alpha_t sqrt(1 - theta_t) / (T alpha_T) -> 0

`check` takes three schedules, `check_algorithm` a member of the family. Schedules that know T are judged as
a family, T to infinity, with constants that hold for every T. docs/theory.md has the proofs.
"""

from __future__ import annotations

import dataclasses
import math
from numbers import Integral
from typing import Any

import numpy as np

from hvd_adam.algorithms import Algorithm
from hvd_adam.errors import ConfigError
from hvd_adam.schedules import BiasCorrected, Constant, Schedule, as_schedule
from hvd_adam.theory.clauses import judge
from hvd_adam.theory.notes import notes_on, notes_on_algorithm
from hvd_adam.theory.numeric import largest_rise
from hvd_adam.theory.repair import nearest_repair
from hvd_adam.theory.subject import Subject
from hvd_adam.theory.verdict import Bound, Clause, Constant0, State, Verdict, proved
from hvd_adam.theory.wording import rate_text

MOST_STEPS = 2**53  # beyond, float64 does not tell t from t + 1


def check_algorithm(algorithm: Algorithm, steps: int) -> Verdict:
    """The verdict on a member of the family; torch's bias correction counts as part of alpha_t.

    Raises:
        ConfigError: see `check`.
    """
    verdict = judged(subject_of(algorithm, steps))
    return dataclasses.replace(verdict, notes=verdict.notes + notes_on_algorithm(algorithm))


def check(*, alpha: Any, beta: Any, theta: Any, steps: int = 10**6) -> Verdict:
    """The verdict on alpha_t, beta_t, theta_t (schedules, numbers or expressions) for a run of T = `steps`.

    >>> check(alpha="0.1/sqrt(t)", beta=0.9, theta="1 - 0.5/t").rate
    'T^-0.25 (log T)^0.5'

    Raises:
        ConfigError: steps not a whole number from 1 to 2^53, a constant out of its domain, an expression
            with a fault, or a schedule that is nan or inf at some t <= T.
    """
    return judged(_subject(as_schedule(alpha), as_schedule(beta), as_schedule(theta), steps))


def subject_of(algorithm: Algorithm, steps: int) -> Subject:
    """What `check_algorithm` judges: its schedules, bias correction included."""
    subject = _subject(algorithm.alpha, algorithm.beta, algorithm.theta, steps)
    if not algorithm.bias_correction:
        return subject
    corrected = BiasCorrected(algorithm.alpha, algorithm.beta, algorithm.theta)
    return dataclasses.replace(subject, alpha=corrected)


def _subject(alpha: Schedule, beta: Schedule, theta: Schedule, steps: int) -> Subject:
    _check_constants(alpha, beta, theta)
    return Subject(alpha, beta, theta, whole_steps(steps))


@np.errstate(all="ignore")  # what is no number is looked for, and said
def judged(subject: Subject) -> Verdict:
    """The verdict on a subject, its change included."""
    _check_finite(subject)
    clauses = judge(subject)
    verdict = Verdict(
        str(subject.alpha), str(subject.beta), str(subject.theta), subject.steps, subject.family, clauses,
        constant=_constant(subject, clauses[2]), bound=_bound(subject), limit=subject.growth.limit,
        rate=rate_text(subject.growth) if clauses[3].holds else "",
    )  # fmt: skip
    repair = None if verdict.holds else nearest_repair(subject, clauses)
    return dataclasses.replace(verdict, notes=notes_on(subject, verdict), repair=repair)


def whole_steps(steps: Any) -> int:
    """T, checked."""
    if isinstance(steps, bool) or not isinstance(steps, Integral) or not 1 <= int(steps) <= MOST_STEPS:
        raise ConfigError(
            f"steps: {str(steps)[:40]}",
            "T is a whole number from 1 to 2^53; beyond, float64 does not tell t from t + 1",
            "for instance steps: 1000000",
        )
    return int(steps)


def _check_constants(alpha: Schedule, beta: Schedule, theta: Schedule) -> None:
    """Constants are usage: out of their domain no step can be made."""
    for name, schedule, inside, domain, usual in (
        ("alpha", alpha, lambda v: 0 < v < math.inf, "(0, inf)", "0.001"),
        ("beta", beta, lambda v: 0 <= v < 1, "[0, 1)", "0.9"),
        ("theta", theta, lambda v: 0 < v < 1, "(0, 1)", "0.999"),
    ):
        if isinstance(schedule, Constant) and not inside(schedule.value):
            raise ConfigError(f"{name}: {schedule.value:g}", f"it must lie in {domain}", f"{usual} is usual")


def _check_finite(subject: Subject) -> None:
    """Every value up to T that is looked at is a number."""
    samples = subject.samples
    for name, schedule, values in (
        ("alpha", subject.alpha, samples.alphas),
        ("beta", subject.beta, samples.betas),
        ("theta", subject.theta, samples.complements),
    ):
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size and samples.t[bad[0]] <= subject.steps:
            t = int(samples.t[bad[0]])
            value = float(schedule.with_horizon(subject.steps)(t))
            raise ConfigError(
                f"{name}_t = {str(schedule)[:60]} is {value:g} at t = {t}",
                "a division by zero, a root or logarithm of what is not positive, or beyond 1.8e308 there",
                "bound it with max(..., ...), or start it later (t + 1 in place of t)",
            )


def _constant(subject: Subject, clause: Clause) -> Constant0 | None:
    samples = subject.samples
    inside = samples.index(subject.steps) + 1
    run = largest_rise(samples.t[:inside], samples.chis[:inside])
    if math.isnan(run.value):
        return None
    if clause.state is State.VIOLATED:
        return Constant0(math.inf, run.value, run.low, run.high, clause.evidence)
    how = subject.shown(
        subject.chi_tree,
        lambda shape: shape.falling,
        lambda first: largest_rise(samples.t[:first], samples.chis[:first]).value < 1 + 1e-12,
    )
    if how:
        return Constant0(1.0, 1.0, 1, 1, proved(how))
    whole = largest_rise(samples.t, samples.chis)
    settled = _falls_beyond(subject, whole.high)
    limit = _limit_of_chi(subject)
    if limit is not None and limit / np.nanmin(samples.chis) > whole.value:
        low = int(samples.t[np.nanargmin(samples.chis)])
        return Constant0(limit / float(np.nanmin(samples.chis)), run.value, low, 0, subject.looked)
    evidence = proved(f"each t to {settled}, by algebra beyond") if settled else subject.looked
    return Constant0(whole.value, run.value, whole.low, whole.high, evidence)


def _falls_beyond(subject: Subject, top: int) -> int | None:
    """A step up to which all was looked at and from which on chi_t never rises."""
    if subject.family:
        return None
    first = max(2, top)
    while first <= subject.samples.dense:
        shape = subject.shape(subject.chi_tree, first)
        if shape is not None and shape.falling:
            return first
        first *= 10
    return None


def _limit_of_chi(subject: Subject) -> float | None:
    chi = subject.growth.chi
    if subject.family or chi is None or not chi.is_point or not chi.low.terms:
        return None
    c, order = chi.low.lead
    return float(c) if order.is_constant and not isinstance(subject.alpha, BiasCorrected) else None


def _bound(subject: Subject) -> Bound | None:
    """At T, or at the last t before it with alpha_t > 0."""
    samples = subject.samples
    alive = np.flatnonzero(samples.alphas[: samples.index(subject.steps) + 1] > 0)
    if not alive.size:
        return None
    place = int(alive[-1])
    t, ratio = float(samples.t[place]), float(samples.ratios[place])
    return Bound(int(t), float(1 / (t * samples.alphas[place])), ratio)
