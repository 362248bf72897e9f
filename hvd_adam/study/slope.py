"""The slope of log T on log s: what doubling the batch buys, as one number with an interval.

The estimand is named, and is the same for a straight line and for a curve: the least-squares slope of the cells' mean
log T on log s over the cells of the study,

    slope = sum_i w_i mu_i,    w_i = (x_i - mean x) / sum_j (x_j - mean x)^2,    x = log s.

The weights belong to the design, not to the data: a cell that was hard to measure does not count less. -1 is linear
speed-up, 0 none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from hvd_adam.errors import ConfigError
from hvd_adam.study.contrast import Model
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.sample import Study, sample

Shape = Literal["free", "line"]
Picks = Literal["fixed", "shared"]
Kind = Literal["super-linear", "sub-linear", "linear or unsure"]


def weights(batches: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return w_i of the least-squares slope on log batch, 1 / log samples.

    Raises:
        ConfigError: all cells have one batch.

    >>> weights([1, np.e])
    array([-1.,  1.])
    """
    x = np.log(np.asarray(batches, float))
    away = x - x.mean()
    square = float(away @ away)
    if square < 1e-12:
        raise ConfigError(
            found=f"every cell has batch {batches[0]:g}",
            why="a slope needs at least two batch sizes",
            cure="add values to the study's grid of workers or of local batch",
        )
    return away / square


def line(batches: np.ndarray) -> np.ndarray:
    """Return the design of a straight line in log batch, (k, 2)."""
    return np.stack([np.ones(len(batches)), np.log(batches)], 1)


def slope(study: Study, *, shape: Shape = "free", picks: Picks = "fixed", level: float = 0.95) -> Estimate:
    """Return the slope with its interval.

    Args:
        study: runs of the named cells. Diverged runs have no T and are left out: the slope is that of the runs that
            reach, see `reach`.
        shape: "free" gives each cell a mean of its own, and assumes nothing of the curve. "line" assumes a straight
            line: for a study with a wholly censored cell, of whose free mean only a bound is known.
        picks: "shared" where each cell's learning rate was picked by tuning. A wrong pick moves all seeds of a cell
            together, so the scatter of the cell means about the line takes the place of that between seeds; a curve is
            then counted as scatter, and the interval is wide.
        level: of the interval.

    Returns:
        The estimate, log steps / log samples. Open where a cell has no finite mean, or no cell has a second seed.

    Raises:
        ConfigError: fewer than two batch sizes.
    """
    return slopes([study], shape=shape, picks=picks, level=level)[0]


def slopes(
    studies: Sequence[Study], *, shape: Shape = "free", picks: Picks = "fixed", level: float = 0.95
) -> list[Estimate]:
    """Return `slope` of each of many studies of one design, all at once."""
    data = sample(studies)
    w = weights(data.batches)
    if picks == "shared":
        return _between_cells(Model(data), data.log_batch, w, level)
    model = Model(data, line(data.batches) if shape == "line" else None)
    found = model.intervals(np.array([[0.0, 1.0]]) if shape == "line" else w[None], level)
    assumed = "a straight line assumed" if shape == "line" else f"least squares over {len(w)} cells with free means"
    return [
        found.at(b, 0, level, int(model.runs[b]), f"log-normal regression, {assumed}; {_interval(model, b)}")
        for b in range(len(studies))
    ]


def _interval(model: Model, b: int) -> str:
    if not model.valid[b] or model.df[b] < 1:
        return "no interval: too few runs reached the target, or one seed a cell"
    text = f"profile likelihood, t({model.df[b]:g})"
    if model.free and not model.known[b].all():
        batches = ", ".join(f"{s:g}" for s in model.data.batches[~model.known[b]])
        text += f"; open, since no run tells the mean of batch {batches}"
    return text


def _between_cells(model: Model, x: np.ndarray, w: np.ndarray, level: float) -> list[Estimate]:
    df = len(x) - 2
    mu = model.means()
    estimate = mu @ w
    residual = mu - mu.mean(1, keepdims=True) - estimate[:, None] * (x - x.mean())
    half = np.full(len(mu), np.inf)
    if df >= 1:
        half = stdtrit(df, 0.5 + level / 2) * np.sqrt((residual**2).sum(1) / df * (w @ w))
    text = f"least-squares line through {len(x)} cell means, picks shared by a cell; t({df})"
    result = []
    for value, width, runs in zip(estimate.tolist(), half.tolist(), model.runs.tolist(), strict=True):
        sure = np.isfinite(value) and np.isfinite(width)
        low, high = (value - width, value + width) if sure else (-np.inf, np.inf)
        method = text if sure else text + "; open: it needs three cells, each with runs that reach"
        result.append(Estimate(value, low, high, level, int(runs), method))
    return result


@dataclass(frozen=True, slots=True)
class Stretch:
    """The slope between two neighbouring batches.

    Args:
        start, end: batches.
        slope: with its interval, simultaneous over all stretches.
        kind: "super-linear" where the whole interval lies below -1, "sub-linear" where above.
    """

    start: int
    end: int
    slope: Estimate
    kind: Kind


def stretches(study: Study, level: float = 0.95) -> list[Stretch]:
    """Return the local slopes from one batch to the next, with Bonferroni's simultaneous intervals.

    A super-linear stretch is real (signal in v shortens the steps before the elbow) and no failure of linearity: it is
    named. Cells of one batch are pooled with equal weights.

    Raises:
        ConfigError: fewer than two batch sizes.
    """
    data = sample([study])
    weights(data.batches)
    values = np.unique(data.batches)
    pooled = (data.batches == values[:, None]).astype(float)
    pooled /= pooled.sum(1, keepdims=True)
    gaps = np.diff(np.log(values))
    model = Model(data)
    found = model.intervals((pooled[1:] - pooled[:-1]) / gaps[:, None], 1 - (1 - level) / len(gaps))
    text = f"difference of neighbouring cell means; profile likelihood, simultaneous over {len(gaps)} stretches"
    result = []
    for j in range(len(gaps)):
        one = found.at(0, j, level, int(model.runs[0]), text)
        kind: Kind = "super-linear" if one.high < -1 else "sub-linear" if one.low > -1 else "linear or unsure"
        result.append(Stretch(int(values[j]), int(values[j + 1]), one, kind))
    return result
