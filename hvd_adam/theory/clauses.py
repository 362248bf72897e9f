"""The four clauses of Corollary 9 (p. 10), each judged by a function of its own.

A clause holds by proof (algebra for every t, joined with an evaluation of the first steps where that is
needed) or by numbers. It is violated only by proof: by a step that is exhibited, or by a limit.
"""

from __future__ import annotations

import numpy as np

from hvd_adam.theory import germs
from hvd_adam.theory.bands import Band, band_of
from hvd_adam.theory.exhibits import Exhibit, fall_of_theta, outside
from hvd_adam.theory.growth import known
from hvd_adam.theory.orders import CONSTANT, ONE, Unclear
from hvd_adam.theory.shapes import Shape
from hvd_adam.theory.subject import Subject
from hvd_adam.theory.trees import Tree
from hvd_adam.theory.trends import chi_settles, ratio_falls
from hvd_adam.theory.verdict import Clause, Evidence, State, proved
from hvd_adam.theory.wording import limit_text

HOLDS, VIOLATED, UNDECIDED = State.HOLDS, State.VIOLATED, State.UNDECIDED
_NOT_TOLD = Evidence("numeric", "algebra does not tell")
_BY_LIMIT = proved("a limit, by algebra")


def judge(subject: Subject) -> tuple[Clause, Clause, Clause, Clause]:
    """All four."""
    return beta_clause(subject), theta_clause(subject), chi_clause(subject), ratio_clause(subject)


def _not_told(number: int) -> Clause:
    return Clause(number, UNDECIDED, _NOT_TOLD, "algebra does not tell")


def _exhibited(number: int, subject: Subject, exhibit: Exhibit) -> Clause:
    """Violated; undecided where the failure may be rounding alone."""
    if exhibit.sure:
        return Clause(number, VIOLATED, proved("exhibited"), exhibit.says, exhibit.first, exhibit.resumes)
    return Clause(number, UNDECIDED, subject.looked, f"{exhibit.says}, in float64 at least", exhibit.first)


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
    exhibit = outside(subject.samples, "beta") if subject.look else None
    if exhibit and exhibit.sure:
        return _exhibited(1, subject, exhibit)
    limit = known(lambda: band_of(subject.beta_tree, subject.variable))
    if limit is not None and reaches_one(limit):
        return Clause(1, VIOLATED, _BY_LIMIT, "beta_t comes arbitrarily close to 1")
    if exhibit or not subject.look:
        return _exhibited(1, subject, exhibit) if exhibit else _not_told(1)
    betas = subject.samples.betas
    late = max(0, subject.samples.index(subject.samples.far / 1000))
    settled = betas.max() < 0.9999 and 1 - betas.max() > 0.9 * (1 - betas[: late + 1].max())
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
        return bool(((c > 0) & (c < 1)).all() and (np.diff(c) <= 0).all())

    tree = subject.complement_tree
    how = subject.shown(tree, lambda shape: inside(shape) and shape.falling, seen)
    if how:
        return Clause(2, HOLDS, proved(how), _theta_text(subject))
    if not subject.look:
        return _not_told(2)
    found = [fall_of_theta(subject.samples)]
    if not subject.shown(tree, inside, lambda first: False):
        found.insert(0, outside(subject.samples, "theta"))
    exhibits = sorted((exhibit for exhibit in found if exhibit), key=lambda exhibit: not exhibit.sure)
    return _exhibited(2, subject, exhibits[0]) if exhibits else Clause(2, HOLDS, subject.looked, "no fall was seen")


def _theta_text(subject: Subject) -> str:
    limit = known(lambda: band_of(subject.complement_tree, subject.variable))
    if limit is None or not limit.is_point or not limit.low.terms:
        return "non-decreasing"
    c, order = limit.low.lead
    if order.is_constant:
        constant = subject.shape(subject.complement_tree)
        return f"theta_t = {1 - float(c):.6g}" if constant and constant.is_constant else f"tends to {1 - float(c):.6g}"
    return "tends to 1"


def shown_positive(subject: Subject, tree: Tree) -> bool:
    """A proof that alpha_t, or 1 - theta_t, is > 0 for every t."""
    values = "alphas" if tree is subject.alpha_tree else "complements"
    return bool(
        subject.shown(
            tree,
            lambda shape: shape.range.is_positive,
            lambda first: bool((getattr(subject.samples, values)[:first] > 0).all()),
        )
    )


def _domain(number: int, subject: Subject) -> tuple[bool, Clause | None]:
    """Whether alpha_t > 0 and theta_t < 1 are shown for every t; a clause where one visibly fails."""
    shown = {tree: shown_positive(subject, tree) for tree in (subject.alpha_tree, subject.complement_tree)}
    if all(shown.values()) or not subject.look:
        return all(shown.values()), None
    exhibit = None if shown[subject.alpha_tree] else outside(subject.samples, "alpha")
    if exhibit is None and not shown[subject.complement_tree]:
        exhibit = outside(subject.samples, "1 - theta")
    fault = _exhibited(number, subject, exhibit) if exhibit else None
    if subject.family or (exhibit and exhibit.sure):
        return False, fault
    negative = _negative(number, "alpha_t", subject.alpha_tree)
    return False, negative or _negative(number, "1 - theta_t", subject.complement_tree) or fault


def _negative(number: int, name: str, tree: Tree) -> Clause | None:
    band = known(lambda: band_of(tree))
    if band is None or band.high.is_zero or band.high.sign > 0:
        return None
    return Clause(number, VIOLATED, _BY_LIMIT, f"{name} < 0 from some t on")


def ends_at_zero(subject: Subject) -> int | None:
    """The first t of a tail of zeros of alpha_t, all values before it looked at; None where there is none."""
    alpha = known(lambda: band_of(subject.alpha_tree))
    if not subject.look or subject.family or alpha is None or not alpha.high.is_zero:
        return None
    alphas = subject.samples.alphas[: subject.samples.dense]
    positive = np.flatnonzero(alphas > 0)
    last = int(positive[-1]) if positive.size else -1
    return last + 2 if last + 1 < len(alphas) else None


def chi_clause(subject: Subject) -> Clause:
    """3. chi_t = alpha_t / sqrt(1 - theta_t) is almost non-increasing; of a family, chi_1 is bounded as well."""
    positive, fault = _domain(3, subject)
    if fault:
        return fault
    chi, start = subject.growth.chi, subject.growth.start
    if chi is not None and grows(chi):
        return Clause(3, VIOLATED, _BY_LIMIT, f"chi_t grows like {limit_text(chi, 't')}")
    if start is not None and grows(start):
        return Clause(3, VIOLATED, _BY_LIMIT, f"chi_1 grows with T like {limit_text(start, 'T')}")
    gone = ends_at_zero(subject)
    falling = subject.shown(
        subject.chi_tree,
        lambda shape: shape.falling and shape.range.is_nonnegative,
        lambda first: _falls_until(subject, first),
    )
    settled = falling or gone or (chi is not None and is_almost_falling(chi))
    says = "chi_t never rises" if falling else f"chi_t > 0 until t = {gone}" if gone else "chi_t settles"
    bounded = start is not None and is_bounded(start)
    if (positive or falling or gone) and settled and bounded:
        return Clause(3, HOLDS, proved(falling or "by algebra"), says)
    if not subject.look:
        return _not_told(3)
    holds, seen = chi_settles(subject)
    return Clause(3, HOLDS if holds or (settled and bounded) else UNDECIDED, subject.looked, seen)


def _falls_until(subject: Subject, first: int) -> bool:
    chi = subject.samples.chis[:first]
    return bool((np.diff(chi) <= 1e-12 * chi[:-1]).all())


def ratio_clause(subject: Subject) -> Clause:
    """4. sum_{t<=T} alpha_t sqrt(1 - theta_t) / (T alpha_T) -> 0; of a family, T alpha_T -> infinity as well."""
    positive, fault = _domain(4, subject)
    if fault:
        return fault
    ratio, reach = subject.growth.ratio, subject.growth.reach
    if reach is not None and reach.high.is_zero:
        gone = ends_at_zero(subject)
        return Clause(4, VIOLATED, _BY_LIMIT, f"alpha_t = 0 from t = {gone} on" if gone else "alpha_T = 0", gone)
    if ratio is not None and stays_up(ratio):
        return Clause(4, VIOLATED, _BY_LIMIT, _floor_text(subject, ratio))
    if reach is not None and is_bounded(reach):
        return Clause(4, VIOLATED, _BY_LIMIT, f"T alpha_T does not grow: {limit_text(reach, 'T')}")
    if ratio is not None and reach is not None and vanishes(ratio) and grows(reach) and (positive or subject.look):
        says = f"the ratio falls like {limit_text(ratio, 'T')}"
        return Clause(4, HOLDS, proved("by algebra") if positive else subject.looked, says)
    if not subject.look:
        return _not_told(4)
    holds, says = ratio_falls(subject)
    return Clause(4, HOLDS if holds else UNDECIDED, subject.looked, says)


def _floor_text(subject: Subject, ratio: Band) -> str:
    if ratio.is_point and ratio.low.lead[1].is_constant:
        value = subject.growth.limit
        return f"the ratio tends to {value:.4g}" if value else "the ratio tends to a positive number"
    if grows(ratio):
        return f"the ratio grows like {limit_text(ratio, 'T')}"
    return "the ratio stays away from 0"


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
