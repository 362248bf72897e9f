"""Theory mode: the schedule knows the horizon T, so that no passage time exists; each run is one horizon's criterion.

The criterion (mean gradient norm, say) is fitted against log T over independent runs, inverted at the target, and
resampled: `theory.horizon_fit`, on the horizons around the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log, nan

import numpy as np

from hvd_adam.errors import ConfigError
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.linearity import EXCESS, pooled_start
from hvd_adam.study.slope import weights
from hvd_adam.theory.horizon_fit import fit_horizon

_EACH_SIDE = 2  # horizons: over more of them log criterion is no line in log T


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The end of one run.

    Args:
        horizon: T, steps, >= 1.
        value: criterion at T, > 0; falls with T.
    """

    horizon: int
    value: float


@dataclass(frozen=True)
class Crossing:
    """T at which the criterion meets the target.

    Args:
        steps: with its interval; bounded on one side where the horizons do not bracket the target.
        draws: T of each resample; empty where the target is not bracketed.
        lack_of_fit: of the line, in standard errors; above 3 or so the horizons lie too far apart.
    """

    steps: Estimate
    draws: np.ndarray
    lack_of_fit: float


def crossing(
    runs: Sequence[Endpoint], target: float, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Crossing:
    """Return T at which the criterion comes down to the target.

    Args:
        runs: independent runs at two horizons at least; diverged ones left out.
        target: epsilon, > 0, in the criterion's unit.

    Raises:
        ConfigError: fewer than two horizons or three runs, a value or target that is not finite and positive, or a
            criterion that does not fall with T.
    """
    by_horizon: dict[int, list[float]] = {}
    for run in runs:
        by_horizon.setdefault(run.horizon, []).append(run.value)
    horizons = sorted(by_horizon)
    if len(horizons) < 2:
        raise ConfigError("one horizon", "a curve needs two", "give the study horizons such as [100, 200, 400, 800]")
    if any(not value > 0 for values in by_horizon.values() for value in values):
        worst = min(run.value for run in runs)
        raise ConfigError(f"criteria: {worst}", "the fit takes logarithms", "leave diverged runs out")
    met = [bool(np.exp(np.mean(np.log(by_horizon[t]))) <= target) for t in horizons]
    if not any(met) or all(met):
        return _outside(horizons, all(met), level, len(runs))
    first = max(met.index(True), 1)
    near = horizons[max(first - _EACH_SIDE, 0) : first + _EACH_SIDE]
    x = [t for t in near for _ in by_horizon[t]]
    y = [value for t in near for value in by_horizon[t]]
    fit = fit_horizon(x, y, target, confidence=level, resamples=draws, seed=seed)
    text = f"log criterion against log T, a line over {len(near)} horizons, inverted; bootstrap, {draws} draws"
    steps = Estimate(fit.horizon, fit.low, fit.high, level, fit.runs, text)
    return Crossing(steps, fit.draws, fit.lack_of_fit)


def _outside(horizons: list[int], before: bool, level: float, n: int) -> Crossing:
    low, high = (0.0, float(horizons[0])) if before else (float(horizons[-1]), inf)
    text = f"the target lies {'before the shortest' if before else 'beyond the longest'} horizon"
    return Crossing(Estimate(nan, low, high, level, n, text), np.empty(0), nan)


def horizon_slope(cells: Mapping[int, Crossing], level: float = 0.95) -> Estimate:
    """Return the least-squares slope of log T on log s over cells, from their resamples; batch -> crossing.

    Raises:
        ConfigError: fewer than two batch sizes.
    """
    batches = sorted(cells)
    w = weights(batches)
    n = sum(cells[s].steps.n for s in batches)
    size = min(len(cells[s].draws) for s in batches)
    text = f"least squares over {len(w)} cells' inverted criteria; bootstrap, {size} draws"
    if not size:
        unknown = ", ".join(str(s) for s in batches if not len(cells[s].draws))
        return Estimate(
            nan, -inf, inf, level, n, text + f"; open: horizons do not bracket the target at batch {unknown}"
        )
    value = float(w @ [log(cells[s].steps.estimate) for s in batches])
    rng = np.random.default_rng(0)  # cells are independent, also where they were resampled from one seed
    drawn = np.stack([np.log(rng.permutation(cells[s].draws)[:size]) for s in batches], 1) @ w
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), level, n, text)


def horizon_linear_up_to(cells: Mapping[int, Crossing], level: float = 0.95) -> Estimate | None:
    """Return up to which batch scaling is linear, as `linearity.linear_up_to` has it; batch -> crossing.

    s T(s) is held against 1.2 x the geometric mean of the pooled start. Each cell's T has its resamples; a cell whose
    horizons do not bracket the target has a bound on one side alone, which can show that it passes or that it fails.

    Returns:
        None where fewer than two batches are known, or no cell's horizons bracket the target.

    Raises:
        ConfigError: fewer than two batch sizes.
    """
    batches = sorted(cells)
    weights(batches)
    known = np.array([len(cells[s].draws) > 0 for s in batches])
    if not known.any():
        return None
    start = pooled_start(known)
    judged = batches[start[0] :]
    samples = {s: s * np.random.default_rng([3, s]).permutation(_draws(cells[s])) for s in batches}
    size = min(len(some) for some in samples.values() if len(some))
    first = np.mean([np.log(samples[batches[j]][:size]) for j in start], axis=0)
    middle = float(np.mean([log(batches[j] * cells[batches[j]].steps.estimate) for j in start]))
    told = []
    for s in judged:
        if len(samples[s]):
            over = np.log(samples[s][:size]) - first
            sure = np.quantile(over, 1 - (1 - level) / 2 / len(judged)) <= log(EXCESS)
            fails = np.quantile(over, (1 - level) / 2) > log(EXCESS)
            told.append((log(s * cells[s].steps.estimate) - middle <= log(EXCESS), sure, not fails))
        else:
            low, high = np.exp(np.quantile(first, [(1 - level) / 2, (1 + level) / 2])) * EXCESS
            before = s * cells[s].steps.high <= low
            told.append((before, before, not s * cells[s].steps.low > high))
    ends = [float(judged[max(np.flatnonzero(held), default=0)]) for held in np.array(told).T]
    text = (
        f"largest batch with at most {100 * (EXCESS - 1):.0f} % more samples than the pooled start (batches "
        f"{', '.join(str(batches[j]) for j in start)}); inverted criteria, bootstrap, {size} draws"
    )
    n = sum(crossed.steps.n for crossed in cells.values())
    return Estimate(ends[0], ends[1], inf if ends[2] == judged[-1] else ends[2], level, n, text)


def _draws(found: Crossing) -> np.ndarray:
    """Its resamples; what would be no step at all is moved to the least that has a logarithm."""
    return np.maximum(found.draws, 1e-9)
