"""Picking a learning rate for a cell, and what the pick adds to the uncertainty.

The pick is made on tuning seeds and the report on fresh ones. A wrong pick is shared by all fresh seeds of the cell, so
more seeds do not average it away. Either the slope's interval takes the scatter of cells (`slope(picks="shared")`), or
the tuning is repeated on resampled seeds (`repeated`) and its spread carried (`carried`), or the interval is labelled
conditional on the picks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from math import comb, factorial, hypot, inf, isfinite, nan, prod

import numpy as np
from scipy.special import ndtri

from hvd_adam.errors import ConfigError
from hvd_adam.study.contrast import Model
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.passage import Passage
from hvd_adam.study.sample import sample
from hvd_adam.study.slope import weights

CONDITIONAL = "; conditional on the learning rates that were picked"


@dataclass(frozen=True)
class Pick:
    """The learning rate that was best on the tuning seeds of one cell.

    Args:
        lr: the pick; nan where no run at any learning rate reached.
        steps: for each learning rate, typical steps of the runs that reach, with interval.
        reached: for each, how many of its runs reached.
        edge: "" or a warning: the best lies on the edge of the grid, and the true best may lie outside.
    """

    lr: float
    steps: dict[float, Estimate]
    reached: dict[float, int]
    edge: str


def pick(trials: Mapping[float, Sequence[Passage]], level: float = 0.95) -> Pick:
    """Return the pick: the smallest mean log T among the learning rates at which the most runs reached.

    Args:
        trials: learning rate -> tuning runs of one cell.

    Raises:
        ConfigError: there are none.
    """
    rates = sorted(trials)
    if not rates:
        raise ConfigError("no learning rate was tried", "there is nothing to pick from", "give the study lr values")
    model = Model(sample([_as_cells(trials)]))
    found = model.intervals(np.eye(len(rates)), level)
    text = "exp of the mean log T of the runs that reach at this learning rate; profile likelihood"
    steps = {lr: found.factor(0, j, level, len(trials[lr]), text) for j, lr in enumerate(rates)}
    reached = {lr: sum(run.reached for run in trials[lr]) for lr in rates}
    best = rates[_best(np.array([reached[lr] for lr in rates]), model.means()[0])] if any(reached.values()) else nan
    return Pick(best, steps, reached, _edge(rates, best))


def _best(reached: np.ndarray, means: np.ndarray) -> int:
    return int(np.nanargmin(np.where((reached == reached.max()) & np.isfinite(means), means, np.inf)))


def _edge(rates: list[float], best: float) -> str:
    if len(rates) < 2 or best not in (rates[0], rates[-1]):
        return ""
    side, beyond = (
        ("smallest", rates[0] ** 2 / rates[1]) if best == rates[0] else ("largest", rates[-1] ** 2 / rates[-2])
    )
    return f"lr {best:g} is the {side} that was tried: the best may lie outside; add {beyond:.3g}"


def _as_cells(trials: Mapping[float, Sequence[Passage]]) -> list[Passage]:
    return [replace(run, cell=f"{j:06d}") for j, lr in enumerate(sorted(trials)) for run in trials[lr]]


def repeated(trials: Mapping[float, Sequence[Passage]], draws: int = 200, seed: int = 0) -> Estimate:
    """Return the spread that picking adds to a cell's log T: the tuning repeated on resampled seeds.

    In each draw the tuning seeds are resampled with replacement, the same for all learning rates (they share noise),
    the pick is repeated, and its mean log T, by all tuning seeds, is noted. The spread is the root mean square of these
    about the least. 0 where every draw picks the same. Few seeds have few draws: then all are taken, each by its
    probability.

    Returns:
        Spread of log T, one for the cell; low and high are its ends by the bootstrap's own error. It errs upward where
        two rates are alike, since their difference is itself measured with noise.
    """
    rates = sorted(trials)
    seeds = sorted({run.seed for runs in trials.values() for run in runs})
    means = Model(sample([_as_cells(trials)])).means()[0]
    drawn, chance, exact = _draws(len(seeds), draws, seed)
    studies = [[run for j, lr in enumerate(rates) for run in _again(trials[lr], seeds, one, j)] for one in drawn]
    complete = [i for i, study in enumerate(studies) if len({run.cell for run in study}) == len(rates)]
    if not complete or not np.isfinite(means).any():
        return Estimate(nan, 0.0, inf, 0.95, len(seeds), "tuning repeated on resampled seeds; no run reached")
    models = Model(sample([studies[i] for i in complete])).means()
    picks, weight = [], []
    for i, found in zip(complete, models, strict=True):
        reached = np.zeros(len(rates))
        for run in studies[i]:
            reached[int(run.cell)] += run.reached
        if reached.any():
            picks.append(_best(reached, found))
            weight.append(chance[i])
    away = np.nan_to_num(means[picks] - np.nanmin(means[picks])) ** 2
    value = float(np.sqrt(np.average(away, weights=weight)))
    error = 0.0 if exact or not value else float(np.std(away) / np.sqrt(len(picks)) / (2 * value))
    which = f"all {len(picks)}" if exact else f"{len(picks)}"
    text = f"tuning repeated on {which} draws of {len(seeds)} tuning seeds" + ("" if exact else f", seed {seed}")
    return Estimate(value, max(value - 2 * error, 0.0), value + 2 * error, 0.95, len(seeds), text)


def _draws(n: int, most: int, seed: int) -> tuple[list[tuple[int, ...]], list[float], bool]:
    """Samples with replacement of n things, their probabilities, and whether these are all there are."""
    if comb(2 * n - 1, n) > most:
        rng = np.random.default_rng(seed)
        return [tuple(rng.choice(n, n)) for _ in range(most)], [1 / most] * most, False
    drawn = list(combinations_with_replacement(range(n), n))
    ways = [factorial(n) / prod(factorial(count) for count in Counter(one).values()) for one in drawn]
    return drawn, [way / n**n for way in ways], True


def _again(runs: Sequence[Passage], seeds: Sequence[int], drawn: Sequence[int], rate: int) -> list[Passage]:
    """The runs of the drawn seeds, as seeds of their own of the cell that stands for a learning rate."""
    by_seed = {run.seed: run for run in runs}
    found = [(i, by_seed.get(seeds[j])) for i, j in enumerate(drawn)]
    return [replace(run, cell=f"{rate:06d}", seed=i) for i, run in found if run is not None]


def carried(slope: Estimate, batches: Sequence[int], spreads: Sequence[float]) -> Estimate:
    """Return the slope with the spreads of its cells' picks in the interval.

    Half widths add in squares: the interval's own, and z sqrt(sum_i (w_i spread_i)^2), w the slope's weights.

    Args:
        slope: from `slope(picks="fixed")` on fresh seeds.
        batches, spreads: of each cell, in one order.
    """
    w = weights(batches)
    extra = float(ndtri(0.5 + slope.level / 2)) * float(np.linalg.norm(w * np.asarray(spreads)))
    if isfinite(slope.estimate):
        low = slope.estimate - hypot(slope.estimate - slope.low, extra)
        high = slope.estimate + hypot(slope.high - slope.estimate, extra)
    else:  # a bound on one side: no half width that errors could join in squares
        low, high = slope.low - extra, slope.high + extra
    return replace(slope, low=low, high=high, method=slope.method + "; spread of the picks carried")


def conditional(slope: Estimate) -> Estimate:
    """Return the slope labelled as conditional on the picks."""
    return replace(slope, method=slope.method + CONDITIONAL)


def is_conditional(estimate: Estimate) -> bool:
    """Return whether it was labelled so."""
    return CONDITIONAL in estimate.method


def moves_with_batch(picks: Mapping[int, float]) -> float:
    """Return the exponent of the picked lr in the batch, by least squares: 1/2 is the square-root rule; nan if unknown.

    >>> round(moves_with_batch({16: 0.1, 64: 0.2, 256: 0.4}), 6)
    0.5
    """
    usable = {s: lr for s, lr in picks.items() if lr > 0}
    if len(usable) < 2:
        return nan
    return float(weights(list(usable)) @ np.log(list(usable.values())))
