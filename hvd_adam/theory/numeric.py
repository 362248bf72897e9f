"""The schedules as numbers: every t up to 1e6, then a geometric grid whose blocks are summed by quadrature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hvd_adam.schedules import Schedule
from hvd_adam.theory.trees import mentions, size_of, tree_of

DENSE = 10**6  # every t up to here
FAR = 10**12  # the grid reaches at least this far
_SMALLEST = 1e-290  # below, float64 begins to lose digits
_BLOCK = 2**15  # steps at a time: fits the cache
_AFFORDABLE = 80  # nodes of all trees together that can be evaluated DENSE times in a fraction of a second
_CUTS = 32  # grid intervals a decade
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


@dataclass(frozen=True)
class Samples:
    """alpha_t, beta_t and 1 - theta_t at every t up to `dense`, and on a grid up to `far`.

    Args:
        alpha, beta, theta: schedules with their horizon bound.
        steps: T.
        ends: the schedules are those of a run of T steps, and say nothing beyond.
        most: every t up to here, 1e6 unless there are many runs to look at.
    """

    alpha: Schedule
    beta: Schedule
    theta: Schedule
    steps: int
    ends: bool = False
    most: int = DENSE

    @cached_property
    def dense(self) -> int:
        """Every t up to here is looked at: 1e6, less for texts of many operations."""
        nodes = sum(size_of(tree_of(s)) for s in (self.alpha, self.beta, self.theta))
        most = max(1000, int(self.most * min(1.0, _AFFORDABLE / nodes)))
        return min(most, self.steps) if self.ends else most

    @cached_property
    def far(self) -> int:
        """The end of the grid."""
        return self.steps if self.ends else max(FAR, self.steps)

    @cached_property
    def grid(self) -> np.ndarray:
        """The steps looked at beyond `dense`, beginning with it."""
        if self.far <= self.dense:
            return np.array([self.dense], dtype=np.float64)
        count = math.ceil(_CUTS * math.log10(self.far / self.dense)) + 1
        points = {*np.floor(np.geomspace(self.dense, self.far, count)), self.dense, self.far, self.steps}
        return np.array(sorted(p for p in points if self.dense <= p <= self.far), dtype=np.float64)

    @cached_property
    def t(self) -> np.ndarray:
        """All steps looked at, in order."""
        return np.concatenate((np.arange(1.0, self.dense + 1), self.grid[1:]))

    @cached_property
    def alphas(self) -> np.ndarray:
        return self._everywhere(self.alpha)

    @cached_property
    def betas(self) -> np.ndarray:
        return self._everywhere(self.beta)

    @cached_property
    def complements(self) -> np.ndarray:
        """1 - theta_t."""
        return self._everywhere(self.theta, complement=True)

    @cached_property
    def chis(self) -> np.ndarray:
        """chi_t = alpha_t / sqrt(1 - theta_t); nan where it is no positive number with all its digits."""
        with np.errstate(all="ignore"):
            chi = self.alphas / np.sqrt(self.complements)
        whole = (self.alphas > _SMALLEST) & (self.complements > _SMALLEST) & np.isfinite(chi)
        chi[~whole] = np.nan
        return chi

    def _everywhere(self, schedule: Schedule, complement: bool = False) -> np.ndarray:
        function = schedule.complement if complement else schedule
        if mentions(tree_of(schedule), "left"):  # running products begin anew at each call
            return function(self.t)
        found = np.empty_like(self.t)
        for start in range(0, len(self.t), _BLOCK):
            found[start : start + _BLOCK] = function(self.t[start : start + _BLOCK])
        return found

    @cached_property
    def sums(self) -> np.ndarray:
        """sum_{i<=t} alpha_i sqrt(1 - theta_i) at every t looked at."""
        with np.errstate(all="ignore"):
            head = np.cumsum((self.alphas * np.sqrt(self.complements))[: self.dense])
            if len(self.grid) == 1:
                return head
            return np.concatenate((head, head[-1] + np.cumsum(self._blocks())))

    def _blocks(self) -> np.ndarray:
        """The sums over low < t <= high between neighbours of the grid: Euler-Maclaurin's first terms."""
        low, high = np.log(self.grid[:-1])[:, None], np.log(self.grid[1:])[:, None]
        points = np.exp((low + high) / 2 + (high - low) / 2 * _NODES)
        inside = ((self._terms(points) * points) @ _WEIGHTS) * (high - low)[:, 0] / 2
        return inside + np.diff(self._terms(self.grid)) / 2

    def _terms(self, t: np.ndarray) -> np.ndarray:
        return self.alpha(t) * np.sqrt(self.theta.complement(t))

    @cached_property
    def ratios(self) -> np.ndarray:
        """Clause 4's ratio, sum_{i<=t} alpha_i sqrt(1 - theta_i) / (t alpha_t), at every t looked at."""
        with np.errstate(all="ignore"):
            return self.sums / (self.t * self.alphas)

    def index(self, t: float) -> int:
        """The place of the last step looked at that is <= t."""
        return int(np.searchsorted(self.t, t, side="right")) - 1


@dataclass(frozen=True)
class Largest:
    """sup_{i<=t} chi_t / chi_i, and where it is taken."""

    value: float
    low: int
    high: int


def largest_rise(t: np.ndarray, chi: np.ndarray) -> Largest:
    """sup over i <= t of chi_t / chi_i: the smallest C_0 with which chi is almost non-increasing.

    With a_t = min_{i<=t} chi_i, the largest non-increasing sequence below chi, C_0 = sup chi_t / a_t.
    Places where chi is nan are left out.

    >>> largest_rise(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 3.0]))
    Largest(value=3.0, low=2, high=3)
    """
    known = np.flatnonzero(~np.isnan(chi))
    if not known.size:
        return Largest(math.nan, 0, 0)
    if known.size < chi.size:
        t, chi = t[known], chi[known]
    below = np.minimum.accumulate(chi)
    rises = chi / below
    top = int(np.argmax(rises))
    bottom = int(np.argmin(chi[: top + 1]))
    return Largest(float(rises[top]), int(t[bottom]), int(t[top]))
