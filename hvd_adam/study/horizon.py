"""Theory mode: the schedule knows the horizon T, so that no passage time exists; each run is one horizon's criterion.

The criterion (mean gradient norm, say) is fitted against log T over independent runs, the curve is inverted at the
target, and the runs are resampled for the interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan

import numpy as np

from hvd_adam.errors import ConfigError
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.slope import weights


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
        steps: with its interval; open where the horizons do not bracket the target.
        draws: log T of each bootstrap draw, nan where a draw's curve does not cross within the horizons.
    """

    steps: Estimate
    draws: np.ndarray


def crossing(
    runs: Sequence[Endpoint], target: float, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Crossing:
    """Invert log criterion = polynomial in log T (a parabola from four horizons on, else a line) at the target.

    The residuals within a horizon are resampled, grown by sqrt(m / (m - 1)) for m runs; the interval is that of the
    percentiles.

    Args:
        runs: independent runs at two horizons at least.
        target: epsilon, > 0.

    Raises:
        ConfigError: fewer than two horizons, or a value or target that is not positive.
    """
    values = np.array([run.value for run in runs], float)
    if not target > 0 or not (values > 0).all():
        raise ConfigError("a criterion or a target that is not above 0", "its logarithm is fitted", "name a norm")
    x = np.log([run.horizon for run in runs])
    horizons = np.unique(x)
    if len(horizons) < 2:
        raise ConfigError("one horizon", "a curve needs two", "give the study horizons such as [100, 200, 400, 800]")
    degree = 2 if len(horizons) >= 4 else 1
    y = np.log(values) - np.log(target)
    member = x[:, None] == horizons
    count = member.sum(0)
    means = (y @ member) / count
    rng = np.random.default_rng(seed)
    grown = np.sqrt(np.where(count > 1, count / np.maximum(count - 1, 1), 1))
    rest = (y - member @ means) * (member @ grown)
    # The mean of m residuals drawn with replacement, at each horizon.
    noise = np.stack([rng.choice(rest[own], (draws, own.sum())).mean(1) for own in member.T], 1)
    found = _root(horizons, means[None], count, degree)[0]
    sampled = _root(horizons, means + noise, count, degree)
    text = f"log criterion fitted against log T over {len(horizons)} horizons, inverted; bootstrap, {draws} draws"
    seen = np.isfinite(sampled)
    low, high = -inf, inf
    if np.isfinite(found) and (count > 1).any():
        tail = (1 - level) / 2
        # A draw that does not cross lies beyond the end that its curve points to.
        filled = np.where(seen, sampled, np.where((means + noise)[:, -1] > 0, inf, -inf))
        low, high = np.quantile(filled, [tail, 1 - tail], method="nearest")
    if not np.isfinite(found):
        beyond = means[-1] > 0
        low, high = (horizons[-1], inf) if beyond else (-inf, horizons[0])
        text += f"; the target lies {'beyond the longest' if beyond else 'before the shortest'} horizon"
    with np.errstate(over="ignore"):
        ends = [float(np.exp(v)) if np.isfinite(v) else (0.0 if v < 0 else v) for v in (low, high)]
    steps = Estimate(float(np.exp(found)) if np.isfinite(found) else nan, ends[0], ends[1], level, len(runs), text)
    return Crossing(steps, sampled)


def _root(x: np.ndarray, y: np.ndarray, count: np.ndarray, degree: int) -> np.ndarray:
    """Return where weighted polynomials through (x, y), (B, h), fall through 0 within x; nan where they do not."""
    middle = x.mean()
    design = np.vander(x - middle, degree + 1) * np.sqrt(count)[:, None]
    coefficients = np.linalg.lstsq(design, (y * np.sqrt(count)).T, rcond=None)[0].T
    fine = np.linspace(x[0], x[-1], 2001)
    curve = coefficients @ np.vander(fine - middle, degree + 1).T
    falls = (curve[:, :-1] > 0) & (curve[:, 1:] <= 0)
    j = falls.argmax(1)
    at = np.arange(len(y))
    above, below = curve[at, j], curve[at, j + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        root = fine[j] + (fine[1] - fine[0]) * above / (above - below)
    return np.where(falls.any(1), root, np.nan)


def horizon_slope(cells: Mapping[int, Crossing], level: float = 0.95) -> Estimate:
    """Return the least-squares slope of log T on log s over cells, from their bootstraps; batch -> crossing.

    Raises:
        ConfigError: fewer than two batch sizes.
    """
    batches = sorted(cells)
    w = weights(batches)
    middle = float(w @ np.log([cells[s].steps.estimate for s in batches]))
    size = min(len(cells[s].draws) for s in batches)
    drawn = np.stack([cells[s].draws[:size] for s in batches], 1) @ w
    n = sum(cells[s].steps.n for s in batches)
    text = f"least squares over {len(w)} cells' inverted criteria; bootstrap, {size} draws"
    if not np.isfinite(middle) or np.isnan(drawn).mean() > (1 - level) / 4:
        return Estimate(middle, -inf, inf, level, n, text + "; open: horizons do not bracket the target in every cell")
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return Estimate(middle, float(low), float(high), level, n, text)
