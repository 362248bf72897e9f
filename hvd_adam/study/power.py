"""How many seeds does an interval of a wanted width need?"""

from __future__ import annotations

from collections.abc import Sequence
from math import log1p, sqrt

import numpy as np
from scipy.special import gammaincinv, stdtrit

from hvd_adam.errors import ConfigError
from hvd_adam.study.contrast import Model
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.sample import Study, sample
from hvd_adam.study.slope import weights

USUAL_SPREAD = 0.15  # of log T between seeds, where no pilot has measured it
MOST_SEEDS = 10_000


def spread(study: Study, level: float = 0.95) -> Estimate:
    """Return the spread of log T between the seeds of a cell, pooled over cells, with the interval of chi-squared."""
    model = Model(sample([study]))
    df, sigma, n = float(model.df[0]), float(model.sigma[0]), int(model.runs[0])
    text = "pooled spread of log T within cells, log-normal regression; chi-squared"
    if not df >= 1 or not np.isfinite(sigma):
        return Estimate(sigma, 0.0, float("inf"), level, n, text + "; needs a second seed")
    tails = [2 * gammaincinv(df / 2, 0.5 + sign * level / 2) for sign in (1, -1)]
    return Estimate(sigma, sigma * sqrt(df / tails[0]), sigma * sqrt(df / tails[1]), level, n, text)


def slope_width(
    batches: Sequence[int], seeds: int, sigma: float = USUAL_SPREAD, *, grid: float = 0.0, censored: float = 0.0,
    level: float = 0.95,
) -> float:  # fmt: skip
    """Return the width that the slope's interval will have.

        width = 2 t(k (m - 1)) sqrt( (sigma^2 + h^2 / 12) sum_i w_i^2 / m ),
        h = log(1 + grid),   m = seeds (1 - censored / 2)

    Args:
        batches: of the k cells.
        seeds: runs a cell, at least 2.
        sigma: spread of log T between seeds, from `spread` of a pilot.
        grid: ratio of neighbouring evaluations less one.
        censored: share of runs that the budget is expected to cut off.

    Raises:
        ConfigError: fewer than two batch sizes, or fewer than two seeds.
    """
    if seeds < 2:
        raise ConfigError(f"{seeds} seed", "one run says nothing of the spread between runs", "use at least 2 seeds")
    w = weights(batches)
    useful = seeds * (1 - censored / 2)
    df = max(len(w) * (useful - 1), 1)
    variance = (sigma**2 + log1p(grid) ** 2 / 12) * float(w @ w) / useful
    return float(2 * stdtrit(df, 0.5 + level / 2) * sqrt(variance))


def seeds_needed(
    batches: Sequence[int], width: float, sigma: float = USUAL_SPREAD, *, grid: float = 0.0, censored: float = 0.0,
    level: float = 0.95,
) -> int:  # fmt: skip
    """Return the fewest seeds a cell whose slope interval is at most `width` wide, see `slope_width`.

    Raises:
        ConfigError: no width, or one that 10,000 seeds do not reach.

    >>> seeds_needed([16, 32, 64, 128, 256, 512], 0.1)
    4
    """
    if not width > 0:
        raise ConfigError(f"interval width {width}", "an interval of no width needs no end of seeds", "ask for 0.1")
    low, high = 1, 2
    while slope_width(batches, high, sigma, grid=grid, censored=censored, level=level) > width:
        low, high = high, 2 * high
        if high > 2 * MOST_SEEDS:
            raise ConfigError(
                f"interval width {width:g} with spread {sigma:g}",
                f"not even {MOST_SEEDS:,} seeds a cell reach it",
                "ask for a wider interval, or spread the batch sizes further",
            )
    while high - low > 1:
        middle = (low + high) // 2
        short = slope_width(batches, middle, sigma, grid=grid, censored=censored, level=level) > width
        low, high = (middle, high) if short else (low, middle)
    return high
