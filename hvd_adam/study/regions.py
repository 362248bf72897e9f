"""The three regions of Shallue et al. 2019 (JMLR 20:112): where each begins by the hyperbola, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, isfinite

from hvd_adam.study.estimate import Estimate
from hvd_adam.study.hyperbola import Hyperbola

PERFECT, DIMINISHING, MAXIMAL = "perfect scaling", "diminishing returns", "maximal parallelism"
SHARE = 0.2  # more samples than the smallest batches need, more steps than the largest need


@dataclass(frozen=True)
class Regions:
    """Where one region ends and the next begins, samples a step.

    On S(s) = S_min (1 + B_crit / s) a batch needs 1 + s / B_crit times the samples of the smallest ones, and
    1 + B_crit / s times the steps of the largest ones. Either is 20 % at

        s = B_crit / 5    (perfect scaling ends)        s = 5 B_crit    (maximal parallelism begins)

    Args:
        perfect: B_crit / 5 with B_crit's interval carried along; open where that is.
        maximal: 5 B_crit, likewise.
        batches: smallest and largest of the study: what lies outside was not seen, and is the curve's to say.
    """

    perfect: Estimate
    maximal: Estimate
    batches: tuple[int, int]

    def of(self, batch: float) -> str:
        """The region that a batch most likely lies in."""
        return _region(batch, self.perfect.estimate, self.maximal.estimate)

    def sure(self, batch: float) -> bool:
        """Whether the whole interval of B_crit puts the batch into one region."""
        ends = zip((self.perfect.low, self.perfect.high), (self.maximal.low, self.maximal.high), strict=True)
        return {_region(batch, *pair) for pair in ends} == {self.of(batch)}

    def seen(self, value: float) -> bool:
        """Whether a border lies between the smallest and the largest batch of the study."""
        return self.batches[0] <= value <= self.batches[1]


def _region(batch: float, perfect: float, maximal: float) -> str:
    if batch <= perfect:
        return PERFECT
    return MAXIMAL if batch >= maximal else DIMINISHING


def regions(curve: Hyperbola | None, batches: tuple[int, int]) -> Regions | None:
    """The regions of a fitted hyperbola; None where it may not be reported, since the cells contradict it."""
    if curve is None or not curve.reported:
        return None
    return Regions(_times(curve.critical, SHARE), _times(curve.critical, 1 / SHARE), batches)


def _times(found: Estimate, factor: float) -> Estimate:
    low, high = (max(found.low, 0.0) * factor, found.high * factor if isfinite(found.high) else inf)
    where = "B_crit / 5: 20 % more samples than the smallest batches need"
    if factor > 1:
        where = "5 B_crit: 20 % more steps than the largest batches need"
    return replace(found, estimate=found.estimate * factor, low=low, high=high, method=f"{where}; interval of B_crit")
