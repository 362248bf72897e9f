"""The four clauses of Corollary 9 (p. 10), each judged by a function of its own.

A clause holds by proof (algebra for every t, joined with an evaluation of the first steps where that is
needed) or by numbers. It is violated only by proof: by a step that is exhibited, or by a limit.
"""

from __future__ import annotations

import numpy as np

from hvd_adam.theory import germs
from hvd_adam.theory.bands import Band, band_of
from hvd_adam.theory.growth import known
from hvd_adam.theory.orders import CONSTANT, ONE, Unclear
from hvd_adam.theory.shapes import Shape
from hvd_adam.theory.subject import Subject
from hvd_adam.theory.trends import chi_settles, ratio_falls
from hvd_adam.theory.verdict import Clause, Evidence, State, proved
from hvd_adam.theory.wording import limit_text

HOLDS, VIOLATED, UNDECIDED = State.HOLDS, State.VIOLATED, State.UNDECIDED
_NOT_TOLD = Evidence("numeric", "algebra does not tell")
_TOUCH = 1e-15  # rounding of 1 - theta_t where theta_t is close to 1
_RELATIVE = 1e-9


def judge(subject: Subject) -> tuple[Clause, Clause, Clause, Clause]:
    """All four."""
    return (
        beta_clause(subject),
        theta_clause(subject),
        chi_clause(subject),
        ratio_clause(subject),
    )


def beta_clause(subject: Subject) -> Clause:
    """1. 0 <= beta_t <= beta < 1."""

    def inside(shape: Shape) -> bool:
        return shape.range.low >= 0 and shape.range.high < 1

    def seen(first: int) -> bool:
        betas = subject.samples.betas[:first]
        return bool(((betas >= 0) & (betas < 1)).all())

    how = subject.shown(subject.beta_tree, inside, seen)
    if how:
        return Clause(1, HOLDS, proved(how), _largest_beta(subject))
    limit = known(lambda: band_of(subject.beta_tree, "T" if subject.family else "t"))
    if subject.look:
        betas = subject.samples.betas
        fault = _first_fault(subject, 1, "beta_t", betas, (betas >= 0) & (betas < 1), "[0, 1)")
        if fault:
            return fault
    if limit is not None and reaches_one(limit):
        return Clause(1, VIOLATED, proved("limit, by algebra"), "beta_t comes arbitrarily close to 1")
    if not subject.look:
        return Clause(1, UNDECIDED, _NOT_TOLD, "not decided")
    betas = subject.samples.betas
    late = betas[subject.samples.index(subject.samples.far / 1000) :]
    settled = betas.max() < 0.9999 and late.max() <= betas.max()
    return Clause(1, HOLDS if settled else UNDECIDED, subject.looked, f"beta_t <= {betas.max():.6g}")


def reaches_one(band: Band) -> bool:
    """The low end tends to 1 or more."""
    try:
        c, order = band.low.lead
        return (order.is_constant and c == 1) or germs.compare(band.low, germs.constant(ONE)) >= 0
    except Unclear:
        return False


def _largest_beta(subject: Subject) -> str:
    shape = subject.shape(subject.beta_tree)
    return f"beta = {shape.range.high:.6g}" if shape and not subject.family else "bounded below 1"


def theta_clause(subject: Subject) -> Clause:
    """2. 0 < theta_t < 1, non-decreasing."""

    def inside(shape: Shape) -> bool:
        return shape.range.is_positive and shape.range.below(1)

    def seen(first: int) -> bool:
        c = subject.samples.complements[:first]
        return bool(((c > 0) & (c < 1)).all()) and not _rises(c).any()

    tree = subject.complement_tree
    how = subject.shown(tree, lambda shape: inside(shape) and shape.falling, seen)
    if how:
        limit = known(lambda: band_of(tree, "T" if subject.family else "t"))
        return Clause(2, HOLDS, proved(how), _theta_text(subject, limit))
    if not subject.look:
        return Clause(2, UNDECIDED, _NOT_TOLD, "not decided")
    if not subject.shown(tree, inside, lambda first: False):
        c = subject.samples.complements
        fault = _first_fault(subject, 2, "theta_t", 1 - c, (c > 0) & (c < 1), "(0, 1)")
        if fault:
            return fault
    fall = _first_fall(subject)
    return fall or Clause(2, HOLDS, subject.looked, "non-decreasing as far as looked")


def _theta_text(subject: Subject, limit: Band | None) -> str:
    if limit is None or not limit.is_point or not limit.low.terms:
        return "non-decreasing"
    c, order = limit.low.lead
    if order.is_constant:
        constant = subject.shape(subject.complement_tree)
        return f"theta_t = {1 - float(c):.6g}" if constant and constant.is_constant else f"tends to {1 - float(c):.6g}"
    return "tends to 1"


def _rises(c: np.ndarray) -> np.ndarray:
    """Where 1 - theta_t exceeds the smallest value before it, by more than rounding."""
    before = np.minimum.accumulate(c)
    return c - before > _RELATIVE * before + _TOUCH


def _first_fall(subject: Subject) -> Clause | None:
    t, c = subject.samples.t, subject.samples.complements
    rises = np.flatnonzero(_rises(c))
    if not rises.size:
        return None
    place = int(rises[0])
    low = int(np.argmin(c[:place]))
    steps = np.flatnonzero(np.diff(c) > _RELATIVE * c[:-1] + _TOUCH)
    resumes = int(t[steps[-1] + 1]) if steps.size and steps[-1] + 2 < subject.samples.dense else None
    says = f"theta_t falls from {1 - c[low]:.6g} at t = {t[low]:.0f} to {1 - c[place]:.6g} at t = {t[place]:.0f}"
    return Clause(2, VIOLATED, proved("exhibited"), says, int(t[place]), resumes)


def _first_fault(
    subject: Subject, clause: int, name: str, values: np.ndarray, inside: np.ndarray, domain: str
) -> Clause | None:
    """The first step at which beta_t or theta_t is out of its domain."""
    faults = np.flatnonzero(~inside)
    if not faults.size:
        return None
    t = subject.samples.t
    first, last = int(t[faults[0]]), int(faults[-1])
    resumes = int(t[last + 1]) if last + 1 < subject.samples.dense and last + 1 < len(t) else None
    says = f"{name} = {values[faults[0]]:.6g} at t = {first}, outside {domain}"
    return Clause(clause, VIOLATED, proved("exhibited"), says, first, resumes)


def alpha_fault(subject: Subject, clause: int) -> Clause | None:
    """The first step at which alpha_t is not positive, though it is positive again later."""
    if not subject.look:
        return None
    alphas, t = subject.samples.alphas, subject.samples.t
    bad = np.flatnonzero(~(alphas > 0))
    if not bad.size or (alphas[bad[0] :] == 0).all():
        return None
    says = f"alpha_t = {alphas[bad[0]]:.6g} at t = {t[bad[0]]:.0f}, not > 0"
    return Clause(clause, VIOLATED, proved("exhibited"), says, int(t[bad[0]]))


def ends_at_zero(subject: Subject) -> int | None:
    """The first t of a tail of zeros of alpha_t; None where alpha_t stays positive."""
    if not subject.look or positive_everywhere(subject):
        return None
    alphas = subject.samples.alphas
    positive = np.flatnonzero(alphas > 0)
    last = int(positive[-1]) if positive.size else -1
    return int(subject.samples.t[last + 1]) if last + 1 < len(alphas) and (alphas[last + 1 :] == 0).all() else None


def positive_everywhere(subject: Subject) -> str | None:
    """A proof that alpha_t > 0 for every t."""
    return subject.shown(
        subject.alpha_tree,
        lambda shape: shape.range.is_positive,
        lambda first: bool((subject.samples.alphas[:first] > 0).all()),
    )


def chi_clause(subject: Subject) -> Clause:
    """3. chi_t = alpha_t / sqrt(1 - theta_t) is almost non-increasing; of a family, chi_1 is bounded as well."""
    fault = alpha_fault(subject, 3)
    if fault:
        return fault
    chi, start = subject.growth.chi, subject.growth.start
    if chi is not None and grows(chi):
        return Clause(3, VIOLATED, proved("limit, by algebra"), f"chi_t grows like {limit_text(chi, 't')}")
    if start is not None and grows(start):
        return Clause(3, VIOLATED, proved("limit, by algebra"), f"chi_1 grows with T like {limit_text(start, 'T')}")
    positive = positive_everywhere(subject) or (ends_at_zero(subject) and "until alpha_t = 0")
    falling = subject.shown(subject.chi_tree, lambda shape: shape.falling, lambda first: _falls_until(subject, first))
    settled = falling or (chi is not None and is_almost_falling(chi))
    if positive and settled and start is not None and is_bounded(start):
        return Clause(3, HOLDS, proved(falling or "by algebra"), "chi_t never rises" if falling else "chi_t settles")
    if not subject.look:
        return Clause(3, UNDECIDED, _NOT_TOLD, "not decided")
    holds, says = chi_settles(subject)
    return Clause(3, HOLDS if holds or (settled and is_bounded(start)) else UNDECIDED, subject.looked, says)


def _falls_until(subject: Subject, first: int) -> bool:
    chi = subject.samples.chis[:first]
    return bool((np.diff(chi) <= 1e-12 * chi[:-1]).all())


def ratio_clause(subject: Subject) -> Clause:
    """4. sum_{t<=T} alpha_t sqrt(1 - theta_t) / (T alpha_T) -> 0; of a family, T alpha_T -> infinity as well."""
    fault = alpha_fault(subject, 4)
    if fault:
        return fault
    growth = subject.growth
    ratio, reach = growth.ratio, growth.reach
    gone = ends_at_zero(subject)
    if gone and not subject.family:
        return Clause(4, VIOLATED, proved("exhibited"), f"alpha_t = 0 from t = {gone} on", gone)
    if ratio is not None and not vanishes(ratio) and stays_up(ratio):
        return Clause(4, VIOLATED, proved("limit, by algebra"), _floor_text(subject, ratio))
    if reach is not None and is_bounded(reach):
        return Clause(4, VIOLATED, proved("limit, by algebra"), f"T alpha_T does not grow: {limit_text(reach, 'T')}")
    if ratio is not None and reach is not None and vanishes(ratio) and grows(reach):
        says = f"the ratio falls like {limit_text(ratio, 'T')}"
        if positive_everywhere(subject) or gone:
            return Clause(4, HOLDS, proved("by algebra"), says)
        if subject.look:
            return Clause(4, HOLDS, subject.looked, says)
    if not subject.look:
        return Clause(4, UNDECIDED, _NOT_TOLD, "not decided")
    holds, says = ratio_falls(subject)
    return Clause(4, HOLDS if holds else UNDECIDED, subject.looked, says)


def _floor_text(subject: Subject, ratio: Band) -> str:
    if ratio.is_point and ratio.low.lead[1].is_constant:
        value = limit_of_ratio(subject)
        return f"the ratio tends to {value:.4g}" if value else "the ratio tends to a positive number"
    if grows(ratio):
        return f"the ratio grows like {limit_text(ratio, 'T')}"
    return "the ratio stays away from 0"


def limit_of_ratio(subject: Subject) -> float | None:
    """What clause 4's ratio tends to, where that is a known positive number."""
    ratio, total = subject.growth.ratio, subject.growth.total
    if ratio is None or total is None or not ratio.is_point or not ratio.low.terms:
        return None
    c, order = ratio.low.lead
    converges = total.low.lead[1].is_constant  # then its value is not known to the algebra
    return float(c) if order.is_constant and not converges else None


def grows(band: Band) -> bool:
    """Tends to infinity."""
    return band.low.sign > 0 and band.low.lead[1].against(CONSTANT) > 0


def is_bounded(band: Band | None) -> bool:
    return band is not None and (band.high.is_zero or band.high.size.against(CONSTANT) <= 0)


def vanishes(band: Band) -> bool:
    """Tends to 0, and is not negative."""
    return band.high.is_zero or band.high.size.against(CONSTANT) < 0


def stays_up(band: Band) -> bool:
    """Stays away from 0 from some t on."""
    return band.low.sign > 0 and band.low.lead[1].against(CONSTANT) >= 0


def is_almost_falling(band: Band) -> bool:
    """Both ends of one order, and that of a function that does not grow."""
    if band.low.sign <= 0:
        return False
    order = band.low.lead[1]
    return order.against(CONSTANT) <= 0 and band.high.lead[1].against(order) == 0
