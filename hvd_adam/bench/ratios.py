"""Ratios of timings that were taken in turns, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
SHARE = 0.9  # of the time of a message that is worth sending by itself


@dataclass(frozen=True)
class Ratio:
    """A median over rounds, with its interval, see `median`; `low` and `high` are NaN for fewer than 5 rounds."""

    value: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.value:.3g} ({'single run' if self.rounds == 1 else f'n = {self.rounds}'})"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def rank(rounds: int) -> tuple[int, float]:
    """Return k and how often the k-th smallest and the k-th largest of so many values enclose the median.

        level = 1 - 2 P(Binomial(rounds, 1/2) < k),

    whatever continuous law the values, independent of each other, come from. k is the largest with a level of 95 % or
    more. Of fewer than 6 values no pair reaches that: k is 1, and of 5 the level is 93.75 %.
    """
    from scipy.stats import binom

    k = max(1, int(binom.ppf((1 - LEVEL) / 2, rounds, 0.5)))
    return k, float(1 - 2 * binom.cdf(k - 1, rounds, 0.5))


def medians(rounds: int) -> str:
    """What the medians of so many rounds stand with, in words."""
    if rounds < 5:
        return "medians, without intervals, for which 5 rounds are needed"
    return f"medians, and {100 * rank(rounds)[1]:.4g} % intervals by order statistics"


def median(values: Sequence[float]) -> Ratio:
    """Return the median of at least one value, with the interval that the order of the values gives: see `rank`."""
    kept = np.sort(np.asarray(values, dtype=float))
    if len(kept) < 5:
        return Ratio(float(np.median(kept)), float("nan"), float("nan"), len(kept))
    k, _ = rank(len(kept))
    return Ratio(float(np.median(kept)), float(kept[k - 1]), float(kept[-k]), len(kept))


def ratio(one: Sequence[float], other: Sequence[float]) -> Ratio:
    """Return the median of one_i / other_i, where round i timed both: what slows a whole round cancels."""
    return median(np.divide(one, other).tolist())


@dataclass(frozen=True)
class Line:
    """seconds = latency + bytes / bandwidth; `bandwidth` in bytes a second."""

    latency: float
    bandwidth: float

    @property
    def worthwhile(self) -> float:
        """Bytes from which on the transfer makes up `SHARE` of the time: smaller pieces pay for their number."""
        return self.latency * self.bandwidth * SHARE / (1 - SHARE)


def latency_and_bandwidth(sizes: Sequence[float], seconds: Sequence[float]) -> Line:
    """Return the line that fits best relative to each time, by least squares.

    Args:
        sizes: bytes, at least two different.
        seconds: > 0, one a size.

    Both terms are kept >= 0: an exchange cannot cost less than nothing (scipy's nnls).
    """
    from scipy.optimize import nnls

    size, time = np.asarray(sizes, dtype=float), np.asarray(seconds, dtype=float)
    scale = size.max()
    (latency, slope), _ = nnls(np.stack([1 / time, size / scale / time], axis=1), np.ones_like(time))
    return Line(float(latency), float(scale / slope) if slope > 0 else float("inf"))
