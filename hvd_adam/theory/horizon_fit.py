"""T(eps) where the schedule knows the horizon: one run per T, the criterion fitted against log T, and inverted.

Theorem 17's schedule depends on T, so that T(eps) cannot be read off one long run. Independent runs are made at several
horizons around the root; over that short stretch log criterion is close to linear in log T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Sequence

import numpy as np

from hvd_adam.errors import ConfigError

RATIOS = (0.76, 0.87, 1.0, 1.15, 1.32)  # horizons of the last round, as shares of the root


@dataclass(frozen=True)
class HorizonFit:
    """T at which the mean criterion comes down to the target.

    Attributes:
        horizon: T(eps), not rounded.
        low, high: bootstrap interval at `confidence`.
        draws: T(eps) of each resample: differences and slopes between fits resample from these.
        influences: what the residual of each run adds to the error of log T(eps), to first order. Where runs share
            their noise, as one seed at several horizons does, `low`, `high` and `draws` are too narrow: add up the
            influences of those that share it, and take the spread of the sums.
        exponent: d log criterion / d log T at the root; -1/4 where the noise decides.
        runs: number of runs in the fit.
        inside: the root lies within the horizons that were run; otherwise it is an extrapolation.
        lack_of_fit: largest |residual of a horizon's mean| / its standard error; above 3 or so the line does not fit.
    """

    horizon: float
    low: float
    high: float
    draws: np.ndarray
    influences: np.ndarray
    exponent: float
    runs: int
    inside: bool
    lack_of_fit: float
    confidence: float = 0.95


def fit_horizon(
    horizons: Sequence[float],
    criteria: Sequence[float],
    target: float,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> HorizonFit:
    """Fits log criterion = a + b log T by least squares and solves it for the target.

    Args:
        horizons: T of each run, > 0; at least two different ones. Runs are independent; of equal T, replicates.
        criteria: the run's criterion, > 0, in the target's unit: the running mean of exact gradient norms in
            Theorem 17. A run that diverged is refused: it is not a point on the line.
        target: eps > 0.
        resamples: bootstrap resamples of the residuals, widened by sqrt(n/(n-2)) for the line's two parameters; the
            horizons stay. Of few runs it is narrow: at 0.95, 5 runs held T in 86 % of 2,000 trials, 15 in
            92 %, 40 in 94 %. With 0 there is no interval.

    Raises:
        ConfigError: fewer than two horizons or three runs, a value that is not finite and positive, or a criterion that
            does not fall with T.
    """
    x, y = np.log(_positive("horizons", horizons)), np.log(_positive("criteria", criteria))
    level = math.log(_positive("target", [target])[0])
    groups = [np.flatnonzero(x == value) for value in np.unique(x)]
    if len(groups) < 2 or len(x) < 3 or len(x) != len(y):
        raise ConfigError(
            f"{len(groups)} horizons, {len(y)} criteria",
            "a line with an interval needs three runs, at two horizons or more",
            "run at another T",
        )
    intercept, slope = _line(x[None], y[None])
    if slope[0] >= 0:
        raise ConfigError(
            f"a criterion that grows like T^{slope[0]:.2g}",
            "it does not come down to the target as T grows",
            "take horizons that lie further apart, or more runs at each",
        )
    residuals = (y - intercept - slope * x) * math.sqrt(len(x) / (len(x) - 2))
    drawn = np.random.default_rng(seed).choice(residuals, (resamples, len(x)))
    a, b = _line(np.broadcast_to(x, drawn.shape), intercept + slope * x + drawn)
    draws = np.exp((level - a[b < 0]) / b[b < 0])
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2]) if resamples else (-math.inf, math.inf)
    root = (level - intercept[0]) / slope[0]
    away = x - x.mean()
    share = (1 / len(x) + (root - x.mean()) * away / np.sum(away**2)) / -slope[0]  # of a run's residual in log T
    return HorizonFit(
        horizon=math.exp(root),
        low=float(low),
        high=float(high),
        draws=draws,
        influences=share * (y - intercept[0] - slope[0] * x),
        exponent=float(slope[0]),
        runs=len(x),
        inside=bool(x.min() <= root <= x.max()),
        lack_of_fit=_lack_of_fit(y - intercept[0] - slope[0] * x, groups),
        confidence=confidence,
    )


def search_horizon(
    measure: Callable[[int, int], np.ndarray],
    target: float,
    guess: float,
    *,
    runs: int = 8,
    scouts: int = 2,
    longest: float = 1e8,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> HorizonFit:
    """Finds T(eps) with few runs: scouts close in on the root, then `runs` fresh runs at each of five horizons.

    Args:
        measure: (T, number of runs) -> the criterion of each; every call must make fresh, independent runs.
        guess: where to begin; a factor of 1000 off costs some rounds.
        longest: largest T that may be run.

    Raises:
        ConfigError: the target is not reached by `longest`, or fit_horizon's.
    """
    root = _closed_in(measure, target, guess, scouts, longest)
    for _ in range(4):
        horizons, criteria = [], []
        for ratio in RATIOS:
            horizon = max(1, round(root * ratio))
            found = np.asarray(measure(horizon, runs), dtype=float)
            horizons += [horizon] * len(found)
            criteria += list(found)
        fit = fit_horizon(horizons, criteria, target, confidence=confidence, resamples=resamples, seed=seed)
        if RATIOS[0] * root <= fit.horizon <= RATIOS[-1] * root:
            return fit
        root = min(max(fit.horizon, root / 4), root * 4)
    return fit


def _closed_in(
    measure: Callable[[int, int], np.ndarray], target: float, guess: float, runs: int, longest: float
) -> float:
    """A T whose criterion lies within some per cent of the target: secants on the log-log curve, kept in brackets."""
    known: list[tuple[float, float]] = []  # (log T, log criterion - log target)
    place = math.log(max(guess, 2.0))
    for _ in range(30):
        horizon = max(2, round(math.exp(place)))
        value = float(np.log(np.mean(measure(horizon, runs)) / target))
        known.append((math.log(horizon), value if math.isfinite(value) else 50.0))
        known.sort()
        above = [p for p in known if p[1] > 0]
        below = [p for p in known if p[1] <= 0]
        if abs(value) < 0.04 or (above and below and below[0][0] - above[-1][0] < 0.1):
            return math.exp(place)
        if above and below:
            (x0, y0), (x1, y1) = above[-1], below[0]
            if x0 >= x1:  # noise has crossed them
                return math.exp(0.5 * (x0 + x1))
            share = min(max(y0 / (y0 - y1), 0.1), 0.9)
            place = x0 + (x1 - x0) * share
        else:
            place = (
                known[-1][0] + min(max(4 * value, 0.2), math.log(8)) if above else known[0][0] + max(4 * value, -2.0)
            )
        if math.exp(place) > longest:
            break
    raise ConfigError(
        f"target {target:g}",
        f"the criterion did not come down to it by T = {longest:g}",
        "raise the target, or longest",
    )


def _line(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intercept and slope of each row."""
    mean_x, mean_y = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    slope = np.sum((x - mean_x) * (y - mean_y), axis=1) / np.sum((x - mean_x) ** 2, axis=1)
    return mean_y[:, 0] - slope * mean_x[:, 0], slope


def _lack_of_fit(residuals: np.ndarray, groups: list[np.ndarray]) -> float:
    """How far the means of the horizons lie from the line, in standard errors; 0 where there are no replicates."""
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return 0.0
    variance = sum(len(group) * float(np.var(residuals[group])) for group in groups) / freedom
    off = [abs(float(residuals[group].mean())) * math.sqrt(len(group)) for group in groups]
    return max(off) / math.sqrt(variance) if variance > 0 else 0.0


def _positive(what: str, values: Sequence[float]) -> np.ndarray:
    found = np.asarray(values, dtype=float)
    bad = found[~(np.isfinite(found) & (found > 0))]
    if bad.size:
        raise ConfigError(
            f"{what}: {bad[0]}", "the fit takes logarithms", "give finite values above 0, and leave diverged runs out"
        )
    return found
