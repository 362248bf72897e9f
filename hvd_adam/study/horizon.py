"""Theory mode: the schedule knows the horizon T, so that no passage time exists; each run is one horizon's criterion.

The criterion (mean gradient norm, say) is fitted against log T and inverted at the target, on the horizons around it:
`theory.horizon_fit`. Runs of one seed at several horizons, and at several batches, draw the same samples, so that what
is independent is the seed: an error is what each seed adds to it, and intervals are Student's t over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, log, nan, sqrt

import numpy as np
from scipy.special import stdtrit

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
        seed: of the run; those of one seed share their noise.
    """

    horizon: int
    value: float
    seed: int


@dataclass(frozen=True)
class Crossing:
    """T at which the criterion meets the target.

    Args:
        steps: with its interval; bounded on one side at most where the horizons do not bracket the target.
        by_seed: what each seed adds to the error of log T; empty where the target is not bracketed.
        lack_of_fit: of the line, in standard errors; above 3 or so the horizons lie too far apart.
        ends: log criterion / target of the runs of each horizon, by which T is bounded where it is not bracketed.
    """

    steps: Estimate
    by_seed: Mapping[int, float]
    lack_of_fit: float
    ends: Mapping[int, Sequence[float]]


def crossing(runs: Sequence[Endpoint], target: float, level: float = 0.95) -> Crossing:
    """Return T at which the criterion comes down to the target.

    Args:
        runs: of some seeds at two horizons at least; diverged ones left out.
        target: epsilon, > 0, in the criterion's unit.

    Raises:
        ConfigError: fewer than two horizons or three runs, a value or target that is not finite and positive, or a
            criterion that does not fall with T.
    """
    by_horizon: dict[int, list[Endpoint]] = {}
    for run in runs:
        by_horizon.setdefault(run.horizon, []).append(run)
    horizons = sorted(by_horizon)
    if len(horizons) < 2:
        raise ConfigError("one horizon", "a curve needs two", "give the study horizons such as [100, 200, 400, 800]")
    if any(not run.value > 0 for run in runs):
        worst = min(run.value for run in runs)
        raise ConfigError(f"criteria: {worst}", "the fit takes logarithms", "leave diverged runs out")
    if not target > 0:
        raise ConfigError(f"target: {target}", "the fit takes logarithms", "name a target above 0")
    ends = {t: [log(run.value / target) for run in by_horizon[t]] for t in horizons}
    met = [bool(np.mean(ends[t]) <= 0) for t in horizons]
    if not any(met) or all(met):
        return _outside(ends, all(met), level, len(runs))
    first = max(met.index(True), 1)
    near = [run for t in horizons[max(first - _EACH_SIDE, 0) : first + _EACH_SIDE] for run in by_horizon[t]]
    fit = fit_horizon([run.horizon for run in near], [run.value for run in near], target, resamples=0)
    by_seed: dict[int, float] = {}
    for run, influence in zip(near, fit.influences.tolist(), strict=True):
        by_seed[run.seed] = by_seed.get(run.seed, 0.0) + influence
    text = f"log criterion against log T, a line over {len({run.horizon for run in near})} horizons, inverted"
    found = _estimate(log(fit.horizon), by_seed, level, fit.runs, text)
    steps = Estimate(fit.horizon, _exp(found.low), _exp(found.high), level, found.n, found.method)
    return Crossing(steps, by_seed, fit.lack_of_fit, ends)


def horizon_slope(cells: Mapping[int, Crossing], level: float = 0.95) -> Estimate:
    """Return the least-squares slope of log T on log s over cells; batch -> crossing.

    Raises:
        ConfigError: fewer than two batch sizes.
    """
    batches = sorted(cells)
    w = weights(batches)
    n = sum(cells[s].steps.n for s in batches)
    text = f"least squares over {len(w)} cells' inverted criteria"
    outside = [str(s) for s in batches if not cells[s].by_seed]
    if outside:
        text += f"; open: horizons do not bracket the target at batch {', '.join(outside)}"
        return Estimate(nan, -inf, inf, level, n, text)
    value = float(w @ [log(cells[s].steps.estimate) for s in batches])
    by_seed = _added([(float(share), cells[s].by_seed) for s, share in zip(batches, w, strict=True)])
    return _estimate(value, by_seed, level, n, text)


def horizon_linear_up_to(cells: Mapping[int, Crossing], level: float = 0.95) -> Estimate | None:
    """Return up to which batch scaling is linear, as `linearity.linear_up_to` has it; batch -> crossing.

    s T(s) is held against 1.2 x the geometric mean of the pooled start. A cell whose horizons do not bracket the target
    has a bound on one side alone, which can show that it passes or that it fails.

    Returns:
        None where fewer than two batches are known, or no cell's horizons bracket the target.

    Raises:
        ConfigError: fewer than two batch sizes.
    """
    batches = sorted(cells)
    weights(batches)
    known = np.array([bool(cells[s].by_seed) for s in batches])
    if not known.any():
        return None
    first = pooled_start(known)
    start, judged = [batches[j] for j in first], batches[first[0] :]
    middle = float(np.mean([log(s * cells[s].steps.estimate) for s in start]))
    of_middle = [(-1 / len(start), cells[s].by_seed) for s in start]
    one_side, all_together = (1 - level) / 2, (1 - level) / 2 / len(judged)
    told = []
    for s in judged:
        if cells[s].by_seed:
            over = log(s * cells[s].steps.estimate) - middle - log(EXCESS)
            error, df = _spread(_added([(1.0, cells[s].by_seed), *of_middle]))
            sure = over + _reach(error, df, all_together) <= 0
            told.append((over <= 0, sure, not over - _reach(error, df, one_side) > 0))
        else:  # of the chance to be wrong each of the two bounds takes half
            error, df = _spread(_added(of_middle))
            high, low = _bounds(cells[s].ends, all_together / 2)[1], _bounds(cells[s].ends, one_side / 2)[0]
            before = s * high <= exp(middle - _reach(error, df, all_together / 2)) * EXCESS
            told.append((before, before, not s * low > exp(middle + _reach(error, df, one_side / 2)) * EXCESS))
    ends = [float(judged[max(np.flatnonzero(held), default=0)]) for held in np.array(told).T]
    text = (
        f"largest batch with at most {100 * (EXCESS - 1):.0f} % more samples than the pooled start (batches "
        f"{', '.join(str(s) for s in start)}); inverted criteria"
    )
    n = sum(crossed.steps.n for crossed in cells.values())
    high = inf if ends[2] == judged[-1] else ends[2]
    return Estimate(ends[0], ends[1], high, level, n, text + _over_seeds(_spread(_added(of_middle))[1]))


def _outside(ends: Mapping[int, Sequence[float]], before: bool, level: float, n: int) -> Crossing:
    text = f"the target lies {'before the shortest' if before else 'beyond the longest'} horizon"
    low, high = _bounds(ends, (1 - level) / 2)
    if low == -inf and high == inf:
        text += ", but not for sure; no bound without more seeds"
    return Crossing(Estimate(nan, low, high, level, n, text), {}, nan, ends)


def _bounds(ends: Mapping[int, Sequence[float]], miss: float) -> tuple[float, float]:
    """Return between which horizons T lies, each end wrong with a chance of `miss` at most.

    A horizon bounds T from below where its mean lies above the target for sure (Student's t over its seeds), and so do
    those of all shorter ones; alike from above.
    """
    low, high = -inf, inf
    for horizon in sorted(ends):
        if not _surely(np.asarray(ends[horizon]), miss):
            break
        low = float(horizon)
    for horizon in sorted(ends, reverse=True):
        if not _surely(-np.asarray(ends[horizon]), miss):
            break
        high = float(horizon)
    return low, high


def _surely(values: np.ndarray, miss: float) -> bool:
    """Whether the mean of what independent values are drawn from lies above 0, but for a chance of `miss`."""
    if len(values) < 2:
        return False
    error = float(values.std(ddof=1)) / sqrt(len(values))
    return float(values.mean()) > _reach(error, len(values) - 1, miss)


def _added(parts: Sequence[tuple[float, Mapping[int, float]]]) -> dict[int, float]:
    """What each seed adds to the error of a sum of shares."""
    found: dict[int, float] = {}
    for share, by_seed in parts:
        for seed, error in by_seed.items():
            found[seed] = found.get(seed, 0.0) + share * error
    return found


def _spread(by_seed: Mapping[int, float]) -> tuple[float, int]:
    """Standard error of a sum of what seeds add, and its degrees of freedom; of one seed nothing is known."""
    m = len(by_seed)
    if m < 2:
        return inf, 0
    return sqrt(m / (m - 1) * sum(error**2 for error in by_seed.values())), m - 1


def _reach(error: float, df: int, miss: float) -> float:
    """How far above the estimate the truth may lie, but for a chance of `miss`."""
    return float(stdtrit(df, 1 - miss)) * error if df else inf


def _estimate(value: float, by_seed: Mapping[int, float], level: float, n: int, text: str) -> Estimate:
    error, df = _spread(by_seed)
    reach = _reach(error, df, (1 - level) / 2)
    return Estimate(value, value - reach, value + reach, level, n, text + _over_seeds(df))


def _over_seeds(df: int) -> str:
    return f"; t({df}) over seeds" if df else "; no interval: one seed"


def _exp(value: float) -> float:
    """e to a bound; an open one stays open."""
    return exp(min(value, 700.0)) if isfinite(value) else value
