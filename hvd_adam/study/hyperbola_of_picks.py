"""The hyperbola where learning rates were picked by tuning: a cell's error is that of its seeds, and that of its pick.

The seeds of a cell share its pick, so that a wrong one moves the cell's mean, and no number of seeds averages it away.
Cells count here as wholes, by generalised least squares on their means m of log T,

    Q(a, u) = r' V^-1 r,    r_i = m_i - a - log(1 + exp(u) / s_i),    V = C + diag(tau^2),

a = log S_min, u = log B_crit, C the covariance of the means by their seeds, tau what picking adds to each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.special import fdtrc, stdtrit

from hvd_adam.study.contrast import Model
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.hyperbola import BEYOND, FLAT, Hyperbola, hyperbola
from hvd_adam.study.linearity import Test
from hvd_adam.study.passage import Passage, cells
from hvd_adam.study.sample import sample
from hvd_adam.study.tuning import conditional

_NET = 2001


def hyperbola_with_picks(
    passages: Sequence[Passage], added: Mapping[str, float] | None, level: float = 0.95
) -> Hyperbola | None:
    """`hyperbola` with what picking adds to each cell in intervals and in the lack-of-fit test.

    Args:
        added: spread of log T by cell, see `picks.spreads`; None where it is not known.

    Returns:
        The hyperbola without picks, labelled conditional on them, where a cell has no finite mean or `added` is None;
        None where fewer than three batches have runs that reach.

    Raises:
        ConfigError: fewer than two batch sizes.
    """
    model = Model(sample([passages]))
    if added is None or not model.known[0].all() or model.df[0] < 1 or len(np.unique(model.data.batches)) < 3:
        alone = hyperbola(passages, level)
        if alone is None:
            return None
        return replace(alone, critical=conditional(alone.critical), floor=conditional(alone.floor))
    tau = np.array([added[cell.name] for cell in cells(passages)])
    return _fitted(_Means(model, tau, float(stdtrit(model.df[0], 0.5 + level / 2))), level)


@dataclass(frozen=True)
class _Best:
    """The least Q at one u: its value, a, and a's variance."""

    q: float
    a: float
    variance: float


class _Means:
    """Means of k cells, their covariance, and the quantile that bounds Q."""

    def __init__(self, model: Model, tau: np.ndarray, t: float) -> None:
        self.means, self.log_batch = model.means()[0], model.data.log_batch
        self.df, self.runs, self.sigma = float(model.df[0]), int(model.runs[0]), float(model.sigma[0])
        by_seeds = model.covariance[0] * float(model.n[0] / model.df[0])
        self.inverse = np.linalg.inv(by_seeds + np.diag(tau**2))
        self.room = t**2
        self.first, self.last = self.log_batch.min() - BEYOND, self.log_batch.max() + BEYOND

    def at(self, u: float) -> _Best:
        rest = self.means - np.logaddexp(0, u - self.log_batch)
        information = float(self.inverse.sum())
        a = float(self.inverse.sum(0) @ rest) / information
        away = rest - a
        return _Best(float(away @ self.inverse @ away), a, 1 / information)


def _fitted(cells: _Means, level: float) -> Hyperbola:
    net = np.linspace(cells.first, cells.last, _NET)
    q = np.array([cells.at(u).q for u in net])
    u, low, high = _region(cells, net, q)
    best = cells.at(u)
    inside = [cells.at(v) for v in np.linspace(max(low, cells.first), min(high, cells.last), 41)]
    half = [sqrt(max(cells.room - (one.q - best.q), 0) * one.variance) for one in inside]
    least = -inf if high == inf else min(one.a - h for one, h in zip(inside, half, strict=True))
    most = max(one.a + h for one, h in zip(inside, half, strict=True))
    text = f"generalised least squares on the means of log T, t({cells.df:g}); spread of the picks carried"

    def figure(value: float, low: float, high: float) -> Estimate:
        ends = np.exp([low, high]).tolist()
        return Estimate(value, ends[0], ends[1], level, cells.runs, text)

    critical = 0.0 if u <= cells.first else inf if u >= cells.last else float(np.exp(u))
    floor = 0.0 if u >= cells.last else float(np.exp(best.a))
    top = len(cells.means) - 2
    statistic = best.q / top
    question = "hyperbola against free cell means, picks allowed for"
    fits = Test(question, statistic, (top, cells.df), float(fdtrc(top, cells.df, statistic)), cells.runs)
    return Hyperbola(figure(critical, low, high), figure(floor, least, most), fits, cells.sigma)


def _region(cells: _Means, net: np.ndarray, q: np.ndarray) -> tuple[float, float, float]:
    """The best u, and where Q has risen by the threshold on either side: -inf or inf where it does not."""
    j = int(q.argmin())
    u = _vertex(cells, net, j)
    least = cells.at(u).q
    if q[0] - least < FLAT:
        u = float(net[0])
    elif q[-1] - least < FLAT:
        u = float(net[-1])

    def over(v: float) -> float:
        return cells.at(v).q - least - cells.room

    beyond = q - least > cells.room
    left, right = np.flatnonzero(beyond & (net < u)), np.flatnonzero(beyond & (net > u))
    low = float(brentq(over, net[left[-1]], u)) if left.size else -inf
    high = float(brentq(over, u, net[right[0]])) if right.size else inf
    return u, low, high


def _vertex(cells: _Means, net: np.ndarray, j: int) -> float:
    """The parabola's through the net's best point and its neighbours; the point itself at an end."""
    if j in (0, len(net) - 1):
        return float(net[j])
    left, middle, right = (cells.at(net[j + d]).q for d in (-1, 0, 1))
    bend = left - 2 * middle + right
    return float(net[j] + (0.5 * (left - right) / bend * (net[1] - net[0]) if bend > 0 else 0.0))
