"""The hyperbola of steps against batch, and its critical batch.

    S(s) = S_min (1 + B_crit / s)

McCandlish 2018 (arXiv 1812.06162): S_min steps are needed however large the batch; at s = B_crit twice as many.
"Critical batch" means B_crit here and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log, nan

import numpy as np
from scipy.special import stdtrit

from hvd_adam.study.contrast import crossing
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.linearity import Test, lack_of_fit
from hvd_adam.study.lognormal import Fit, fit
from hvd_adam.study.sample import Sample, Study, sample
from hvd_adam.study.slope import weights

BEYOND = log(1000)  # the profile is followed this far past the smallest and the largest batch
_NET, _INSIDE, _PARABOLAS = 25, 21, 12
FLAT = 1e-3  # a likelihood ratio below this is none


@dataclass(frozen=True)
class Hyperbola:
    """A fitted hyperbola.

    Args:
        critical: B_crit, samples; open above where the line never bends, from 0 where nothing is gained.
        floor: S_min, steps.
        fits: lack-of-fit test against free cell means.
        sigma: spread of log T about it.
    """

    critical: Estimate
    floor: Estimate
    fits: Test
    sigma: float

    @property
    def reported(self) -> bool:
        """Whether the figures may be reported: a hyperbola that the cells contradict at 5 % has no critical batch."""
        return not self.fits.rejects()

    def steps(self, batch: float) -> float:
        """Return S(batch), steps; nan where B_crit is not bounded."""
        if self.critical.estimate == inf:
            return nan
        return self.floor.estimate * (1 + self.critical.estimate / batch)


def hyperbola(study: Study, level: float = 0.95) -> Hyperbola | None:
    """Fit the hyperbola by maximum likelihood, log-normal noise, interval- and right-censored.

    B_crit's interval is the profile likelihood's with the threshold of `contrast`, p = 2. S_min's is the shadow of the
    joint region of both, the likelihood in log S_min being Student's t where B_crit is held. Either may be open.

    Returns:
        None where fewer than three batches have runs that reach: two points lie on many hyperbolas.

    Raises:
        ConfigError: fewer than two batch sizes.
    """
    return hyperbolas([study], level)[0]


def hyperbolas(studies: Sequence[Study], level: float = 0.95) -> list[Hyperbola | None]:
    """Return `hyperbola` of each of many studies of one design."""
    data = sample(studies)
    weights(data.batches)
    result: list[Hyperbola | None] = [None] * len(studies)
    reached = (data.weight * np.isfinite(data.high)) @ data.member
    points = np.stack([reached[:, data.batches == s].sum(1) > 0 for s in np.unique(data.batches)], 1).sum(1)
    n = 0.5 * (reached.sum(1) + data.weight.sum(1))
    where = np.flatnonzero((points >= 3) & (n - 2 >= 1))
    if where.size:
        for b, found in zip(where, _Profile(data.take(where), n[where], level).results(), strict=True):
            result[b] = found
    return result


class _Profile:
    """Profiles of the log-likelihood over u = log B_crit, for B studies."""

    def __init__(self, data: Sample, n: np.ndarray, level: float):
        self.data, self.level, self.n, self.df = data, level, n, n - 2
        self.size = len(n)
        self.t = stdtrit(self.df, 0.5 + level / 2)
        self.first, self.last = data.log_batch.min() - BEYOND, data.log_batch.max() + BEYOND
        self.net = np.linspace(self.first, self.last, _NET)
        every = np.repeat(np.arange(self.size), _NET)
        found = self.at(np.tile(self.net, self.size), every, None)
        self.loglik = found.loglik.reshape(self.size, _NET)
        self.net_a, self.net_sigma = found.coefficients.reshape(self.size, _NET), found.sigma.reshape(self.size, _NET)
        self.u, self.best = self._top()

    def at(self, u: np.ndarray, study: np.ndarray, start: tuple[np.ndarray, np.ndarray] | None) -> Fit:
        """Return the fit of log S_min and sigma with log B_crit = u."""
        offset = np.logaddexp(0, u[:, None] - self.data.log_batch)
        return fit(self.data.take(study), np.ones((offset.shape[1], 1)), offset, start)

    def _near(self, u: np.ndarray, study: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return log S_min and sigma at u, between their values on the net."""
        place = np.clip((u - self.first) / (self.last - self.first) * (_NET - 1), 0, _NET - 1 - 1e-9)
        j = place.astype(int)
        part = place - j
        a, s = ((1 - part) * v[study, j] + part * v[study, j + 1] for v in (self.net_a, self.net_sigma))
        return a[:, None], s

    def _top(self) -> tuple[np.ndarray, Fit]:
        """Return the best u: parabolas through the three best points, within the net's best mesh."""
        everyone = np.arange(self.size)
        j = np.clip(self.loglik.argmax(1), 1, _NET - 2)
        x = np.stack([self.net[j - 1], self.net[j], self.net[j + 1]], 1)
        y = np.stack([self.loglik[everyone, j + d] for d in (-1, 0, 1)], 1)
        for _ in range(_PARABOLAS):
            left, right = x[:, 1] - x[:, 0], x[:, 2] - x[:, 1]
            rise, fall = (y[:, 1] - y[:, 0]) / left, (y[:, 1] - y[:, 2]) / right
            with np.errstate(divide="ignore", invalid="ignore"):
                shift = 0.5 * (rise * right**2 - fall * left**2) / (rise * right + fall * left)
            # A vertex too near to the middle point teaches nothing: step to a tenth of the wider side instead.
            wide = np.where(left > right, -left, right)
            inside = (shift > -left) & (shift < right) & (np.abs(shift) > 1e-4)
            u = x[:, 1] + np.where(inside, shift, 0.1 * wide)
            value = self.at(u, everyone, self._near(u, everyone)).loglik
            x, y = np.concatenate([x, u[:, None]], 1), np.concatenate([y, value[:, None]], 1)
            order = np.argsort(x, 1)
            x, y = np.take_along_axis(x, order, 1), np.take_along_axis(y, order, 1)
            middle = np.clip(y.argmax(1), 1, 2)
            keep = middle[:, None] + np.array([-1, 0, 1])
            x, y = np.take_along_axis(x, keep, 1), np.take_along_axis(y, keep, 1)
        u = np.take_along_axis(x, y.argmax(1)[:, None], 1)[:, 0]
        top = self.loglik.max(1)
        u = np.where(top - self.loglik[:, 0] < FLAT / 2, self.first, u)
        u = np.where(top - self.loglik[:, -1] < FLAT / 2, self.last, u)
        return u, self.at(u, everyone, None)

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Return where t(u) reaches Student's quantile on both sides; -inf and inf where it does not."""
        low, high = np.full(self.size, -np.inf), np.full(self.size, np.inf)
        for side, end, result in ((-1, 0, low), (1, -1, high)):
            far = self._t(self.loglik[:, end], np.arange(self.size)) > self.t
            who = np.flatnonzero(far)
            if who.size:
                # Begin at the net's first point beyond.
                beyond = self.t[who, None] < self._t(self.loglik[who].T, who).T
                distance = side * (self.net - self.u[who, None])
                step = np.where(beyond & (distance > 0), distance, np.inf).min(1)

                def t(away: np.ndarray, index: np.ndarray, side: int = side, who: np.ndarray = who) -> np.ndarray:
                    study = who[index]
                    u = self.u[study] + side * away
                    return self._t(self.at(u, study, self._near(u, study)).loglik, study)

                result[who] = self.u[who] + side * crossing(t, step, self.t[who])
        return low, high

    def _t(self, loglik: np.ndarray, study: np.ndarray) -> np.ndarray:
        w = np.maximum(2 * (self.best.loglik[study] - loglik), 0)
        return np.sqrt(self.df[study] * np.expm1(np.minimum(w / self.n[study], 300)))

    def floors(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the interval of log S_min: at each u of the region, what the threshold leaves of Student's t."""
        part = np.linspace(0, 1, _INSIDE)
        a, b = np.maximum(low, self.first), np.minimum(high, self.last)
        u = (a[:, None] + part * (b - a)[:, None]).ravel()
        study = np.repeat(np.arange(self.size), _INSIDE)
        found = self.at(u, study, self._near(u, study))
        bar = self.n * np.log1p(self.t**2 / self.df)
        room = np.maximum(bar[study] - 2 * (self.best.loglik[study] - found.loglik), 0)
        half = np.sqrt(self.n[study] * np.expm1(room / self.n[study]) * found.covariance()[:, 0, 0])
        middle = found.coefficients[:, 0]
        least, most = (v.reshape(self.size, _INSIDE) for v in (middle - half, middle + half))
        return np.where(np.isinf(high), -np.inf, least.min(1)), most.max(1)

    def results(self) -> list[Hyperbola]:
        low, high = self.ends()
        least, most = self.floors(low, high)
        offset = np.logaddexp(0, self.u[:, None] - self.data.log_batch)
        tests = lack_of_fit(self.data, np.ones((offset.shape[1], 1)), offset, 2, "hyperbola against free cell means")
        at_end = self.u >= self.last
        with np.errstate(over="ignore"):
            critical = np.where(self.u <= self.first, 0, np.where(at_end, np.inf, np.exp(self.u)))
            floor = np.where(at_end, 0, np.exp(self.best.coefficients[:, 0]))
            ends = np.exp(np.stack([low, high, least, most], 1))
        sigma = self.best.sigma * np.sqrt(self.n / self.df)
        runs = self.data.weight.sum(1)
        result = []
        for b in range(self.size):
            text = f"log-normal regression on log(S_min (1 + B_crit / s)); profile likelihood, t({self.df[b]:g})"
            a, z, c, d = ends[b].tolist()
            n = int(runs[b])
            b_crit = Estimate(float(critical[b]), a, z, self.level, n, text)
            s_min = Estimate(float(floor[b]), c, d, self.level, n, text)
            result.append(Hyperbola(b_crit, s_min, tests[b], float(sigma[b])))
        return result
