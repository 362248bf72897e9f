"""Survival curves: the share of runs that have not met the target after t steps, with nothing assumed of its shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.special import ndtri

from hvd_adam.study.passage import Passage, group

_ROUNDS = 500
_GAP = 1e-11  # of the optimality condition


@dataclass(frozen=True)
class Curve:
    """Turnbull's estimate; Kaplan and Meier's where no two intervals overlap in part.

    Args:
        start, end: support: a share of the runs meets the target in (start_j, end_j], steps; where in it is not known.
        share: of the runs, in each interval; what is missing to 1 had not met the target by the last look, or diverged.
        surviving: share that has not met the target at end_j.
        low, high: pointwise interval of `surviving`, log(-log) with Greenwood's variance; exact where it is 0 or 1.
        level: of that interval.
        n: runs, diverged ones included: they stay at risk for ever.
    """

    start: np.ndarray
    end: np.ndarray
    share: np.ndarray
    surviving: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float
    n: int

    def at(self, steps: float) -> float:
        """Return the share that has not met the target after `steps`; within a support interval, that at its start."""
        return float(1 - self.share[self.end <= steps].sum())

    def quantile(self, share: float = 0.5) -> tuple[float, float]:
        """Return the interval of steps in which a share of the runs meets the target; (inf, inf) if it was not seen."""
        passed = np.cumsum(self.share) >= share - 1e-9
        if not passed.any():
            return float("inf"), float("inf")
        j = int(np.argmax(passed))
        return float(self.start[j]), float(self.end[j])


def curves(passages: Sequence[Passage], level: float = 0.95) -> dict[str, Curve]:
    """Return the curve of each cell.

    Raises:
        ConfigError: there are no passages.
    """
    return {name: curve(runs, level) for name, runs in group(passages).items()}


def curve(runs: Sequence[Passage], level: float = 0.95) -> Curve:
    """Return the curve of runs that are taken as one sample.

    The likelihood prod_i (share in (low_i, high_i]) is maximised over shares on the innermost intervals (Turnbull 1976)
    by constrained Newton steps (Wang 2007); a diverged run puts its weight on "never".
    """
    low = np.array([np.inf if run.diverged else run.low for run in runs])
    high = np.array([np.inf if not run.reached else run.high for run in runs])
    start, end, inside = _support(low, high)
    share = _maximise(inside)
    keep = (share > 1e-12) & np.isfinite(end)
    start, end, share, inside = start[keep], end[keep], share[keep], inside[:, keep]
    surviving = np.clip(1 - np.cumsum(share), 0, 1)
    surviving[surviving < 1e-12] = 0
    below, above = _greenwood((end, share, surviving, inside), runs, level)
    return Curve(start, end, share, surviving, below, above, level, len(runs))


def _support(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the innermost intervals and which run's interval holds which, (n, m)."""
    finite = np.concatenate([low[np.isfinite(low)], high[np.isfinite(high)], [0.0]]).max()
    never = 2 * finite + 1  # diverged: (never, never + 1]; censored: (low, never + 1]
    a = np.where(np.isfinite(low), low, never)
    b = np.where(np.isfinite(high), high, never + 1)
    # Sorted ends; at a tie the closed right end comes before the open left one. A left end followed by a right one
    # bounds an innermost interval.
    values = np.concatenate([a, b])
    is_left = np.concatenate([np.ones(len(a), bool), np.zeros(len(b), bool)])
    order = np.lexsort((is_left, values))
    values, is_left = values[order], is_left[order]
    pair = np.flatnonzero(is_left[:-1] & ~is_left[1:])
    start, end = values[pair], values[pair + 1]
    inside = (a[:, None] <= start) & (end <= b[:, None])
    return np.where(start == never, np.inf, start), np.where(end == never + 1, np.inf, end), inside


def _maximise(inside: np.ndarray) -> np.ndarray:
    """Return the shares that maximise sum_i log sum_j inside_ij share_j."""
    rows, weight = np.unique(inside, axis=0, return_counts=True)
    matrix, total = rows.astype(float), weight.sum()
    share = np.full(matrix.shape[1], 1 / matrix.shape[1])

    def value(candidate: np.ndarray) -> float:
        with np.errstate(divide="ignore"):
            return float(weight @ np.log(matrix @ candidate))

    for _ in range(_ROUNDS):
        ratio = matrix / (matrix @ share)[:, None]
        gradient = weight @ ratio / total
        if gradient.max() - 1 < _GAP:
            break
        root = np.sqrt(weight)[:, None]
        system = np.vstack([root * ratio, np.sqrt(total) * np.ones(matrix.shape[1])])
        target = np.concatenate([2 * root[:, 0], [np.sqrt(total)]])
        found, _ = nnls(system, target)
        direction = found / found.sum() - share
        slope, here, step = float(total * gradient @ direction), value(share), 1.0
        while value(share + step * direction) < here + step * slope / 3 and step > 1e-10:
            step /= 2
        if step <= 1e-10:
            break
        share = np.maximum(share + step * direction, 0)
    return share / share.sum()


def _greenwood(curve: tuple[np.ndarray, ...], runs: Sequence[Passage], level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the pointwise interval of the surviving share at each finite end of the support.

    Events in j are what the runs that reached are expected to have there. At risk in j are those of them expected there
    or later, the censored runs that were still looked at when j ended, and the diverged runs, always.
    """
    end, share, surviving, inside = curve
    reached = np.array([run.reached for run in runs])
    looked = np.array([run.low for run in runs if run.censored])
    held = inside[reached] * share
    held = held / np.maximum(held.sum(1, keepdims=True), 1e-300)
    events = held.sum(0)
    later = np.cumsum(events[::-1])[::-1]
    at_risk = later + sum(run.diverged for run in runs) + (looked[:, None] >= end).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.cumsum(events / (at_risk * np.maximum(at_risk - events, 0)))
        log_s = np.log(surviving)
        half = ndtri(0.5 + level / 2) * np.sqrt(variance) / np.abs(log_s)
        low, high = np.exp(log_s * np.exp(half)), np.exp(log_s * np.exp(-half))
    tail = ((1 - level) / 2) ** (1 / len(runs))
    low = np.where(surviving <= 0, 0, np.where(surviving >= 1, tail, low))
    high = np.where(surviving <= 0, 1 - tail, np.where(surviving >= 1, 1, high))
    return low, high
