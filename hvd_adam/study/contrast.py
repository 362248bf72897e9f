"""Contrasts of cell means, and their profile-likelihood intervals with a threshold made for few seeds.

A contrast is c'mu, mu the means of log T. Its interval holds the values b for which t(b)^2 is at most the squared
quantile of Student's t with n - p degrees of freedom,

    t(b)^2 = (n - p) (exp(W(b) / n) - 1),
    W(b) = 2 (log-likelihood at its maximum - the same with c'mu = b),

p the means that are fitted and n the runs that reached the target plus half of the censored ones. Without censoring
this is Student's interval exactly. Counting a censored run as half a run is what simulation showed right
(docs/validity.md): not counted at all, the intervals come out too wide; counted whole, too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from hvd_adam.study.estimate import Estimate
from hvd_adam.study.lognormal import fit
from hvd_adam.study.sample import Sample

_TOLERANCE = 1e-5  # of the critical t
_ROUNDS = 60
_OUT = 5  # sigmas beyond its last look at which a wholly censored cell's likelihood counts as 1


@dataclass(frozen=True)
class Intervals:
    """Estimates of Q contrasts in B studies, (B, Q); nan, and -inf or inf where the data leave a side open."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def at(self, b: int, q: int, level: float, n: int, method: str) -> Estimate:
        """Return one of them as an estimate."""
        value, low, high = (float(a[b, q]) for a in (self.estimate, self.low, self.high))
        return Estimate(value, low, high, level, n, method)

    def factor(self, b: int, q: int, level: float, n: int, method: str, shift: float = 0.0) -> Estimate:
        """Return exp(contrast + shift): a ratio, or steps."""
        with np.errstate(over="ignore"):
            ends = np.exp(np.array([a[b, q] for a in (self.estimate, self.low, self.high)]) + shift)
        return Estimate(float(ends[0]), float(ends[1]), float(ends[2]), level, n, method)


class Model:
    """Cell means on a design, fitted to B studies once; asked for contrasts after that.

    Args:
        data: the studies.
        design: (k, p), full rank; the identity, by default, gives each cell a mean of its own: the free model.

    Attributes:
        known: cells whose mean the data bound on both sides, (B, k).
        rising, falling: cells without an upper bound (all runs censored) or a lower one (all met the target before the
            first evaluation), (B, k). In the free model they have no estimate.
        runs: runs that the fit rests on, censored ones included, (B,).
        uncensored: those whose T is known to a finite interval, (B,).
        n, p, df: of the threshold above, (B,).
        valid: studies that have a fit, (B,).
    """

    def __init__(self, data: Sample, design: np.ndarray | None = None):
        k = data.member.shape[1]
        count = data.weight @ data.member
        reached = (data.weight * np.isfinite(data.high)) @ data.member
        late = (data.weight * np.isfinite(data.low)) @ data.member
        self.known = (reached > 0) & (late > 0)
        self.rising = (count > 0) & (reached == 0)
        self.falling = (count > 0) & (late == 0)
        self.free = design is None
        self.design = np.eye(k) if design is None else design
        self.data = data
        used = data.only(self.known) if self.free else data
        self.runs = used.weight.sum(-1)
        self.uncensored = (used.weight * np.isfinite(used.high - used.low)).sum(-1)
        if self.free:
            self.p = self.known.sum(-1)
            self.valid = self.p > 0
        else:
            self.p = np.full(len(count), self.design.shape[1])
            self.valid = np.array([np.linalg.matrix_rank(self.design[known]) for known in self.known]) == self.p
        self.n = 0.5 * (self.runs + self.uncensored)
        self.df = self.n - self.p
        self.fit = fit(used, self.design)
        self.covariance = self.fit.covariance()[:, :-1, :-1]

    @property
    def sigma(self) -> np.ndarray:
        """Spread of log T within a cell, corrected for the means that were fitted; nan if unknown, (B,)."""
        usable = self.valid & (self.df >= 0.5)
        return np.where(usable, self.fit.sigma * np.sqrt(self.n / np.where(usable, self.df, 1)), np.nan)

    def means(self) -> np.ndarray:
        """Return the estimated mean log T of each cell, nan where it has none, (B, k)."""
        means = self.fit.coefficients @ self.design.T
        return np.where(self.known if self.free else self.valid[:, None], means, np.nan)

    def intervals(self, contrasts: np.ndarray, level: float = 0.95) -> Intervals:
        """Return estimates and intervals of `contrasts` @ coefficients, contrasts (Q, p)."""
        problems = _Problems(self, contrasts)
        side, who = problems.sides()
        critical = stdtrit(np.maximum(problems.df, 1), 0.5 + level / 2)
        low, high = np.where(problems.zero, 0, -np.inf), np.where(problems.zero, 0, np.inf)
        ends = problems.solve(who, side, critical[who])
        low[who[side < 0]], high[who[side > 0]] = ends[side < 0], ends[side > 0]
        shape = (len(self.n), len(contrasts))
        estimate = np.where(problems.closed, problems.centre, np.nan)
        return Intervals(estimate.reshape(shape), low.reshape(shape), high.reshape(shape))

    def t(self, contrasts: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return t of contrast = value, its sign that of value - estimate, (B, Q).

        The interval at a level lies above the value where t is below minus Student's quantile, and below it where t is
        above. 0 where the data say nothing.

        Args:
            contrasts: (Q, p).
            values: (Q,) or (B, Q).
        """
        problems = _Problems(self, contrasts)
        b = np.broadcast_to(values, (len(self.n), len(contrasts))).ravel()
        t = np.where(problems.zero, np.sign(b) * np.inf, 0.0)
        t[problems.zero & (b == 0)] = 0
        usable = problems.usable & ~problems.zero
        # Where only one side is bounded, beyond the anchor nothing contradicts any value.
        away = b - problems.centre
        blind = (problems.up & (away >= 0)) | (problems.down & (away <= 0))
        who = np.flatnonzero(usable & ~blind)
        t[who] = np.sign(away[who]) * problems.t(b[who], who)
        return t.reshape(len(self.n), len(contrasts))


class _Problems:
    """B x Q pairs of study and contrast, flattened to P."""

    def __init__(self, model: Model, contrasts: np.ndarray):
        contrasts = np.asarray(contrasts, float)
        b, q = len(model.n), len(contrasts)
        self.model = model
        self.study, self.which = np.repeat(np.arange(b), q), np.tile(np.arange(q), b)
        self.c = contrasts[self.which]
        self.df, self.n = model.df[self.study], model.n[self.study]
        self.zero = ~(self.c != 0).any(1) & model.valid[self.study]
        self.best = model.fit.coefficients[self.study]
        self.cov = model.covariance[self.study]
        self.up = self.down = np.zeros(b * q, bool)
        self.closed = model.valid[self.study]
        self.used = np.ones((b * q, model.known.shape[1]), bool)
        if model.free:
            self._sort_out()
        self.centre = (self.c * self.best).sum(1)
        self.usable = model.valid[self.study] & (self.df >= 1) & (self.closed | self.up | self.down)
        basis = [_complement(c) for c in contrasts]  # coefficients = b * along + across @ rest
        square = np.maximum((contrasts**2).sum(1, keepdims=True), 1e-300)
        self.along, self.across = contrasts / square, np.stack(basis)
        self.design = model.design @ self.across
        self.offset = self.along @ model.design.T
        spread = (self.cov @ self.c[..., None])[..., 0]
        self.variance = np.maximum((self.c * spread).sum(1), 1e-24)
        self.drift = spread / self.variance[:, None]
        self.loglik, self.sigma = model.fit.loglik[self.study], model.fit.sigma[self.study]

    def _sort_out(self) -> None:
        """Tell which problems are closed, and put the cells that leave one open where they do not contradict it."""
        model = self.model
        known, rising, falling = (a[self.study] for a in (model.known, model.rising, model.falling))
        touched = self.c != 0
        up = ((rising & (self.c > 0)) | (falling & (self.c < 0))).any(1)
        down = ((rising & (self.c < 0)) | (falling & (self.c > 0))).any(1)
        hopeless = (touched & ~known & ~rising & ~falling).any(1) | (up & down)
        self.closed = ~(touched & ~known).any(1) & model.valid[self.study]
        self.up, self.down = up & ~hopeless, down & ~hopeless
        self.used = known | (touched & (rising | falling))
        if (self.up | self.down).any():
            rows = (model.data.weight > 0)[:, :, None] & (model.data.member > 0)
            sigma = model.fit.sigma[:, None]
            last = np.where(rows, model.data.low[:, :, None], -np.inf).max(1) + _OUT * sigma
            first = np.where(rows, model.data.high[:, :, None], np.inf).min(1) - _OUT * sigma
            self.best = np.where(
                touched & rising, last[self.study], np.where(touched & falling, first[self.study], self.best)
            )
            odd = touched & (rising | falling)
            self.cov = np.where(odd[:, :, None] | odd[:, None, :], 0, self.cov)
            at = np.arange(self.c.shape[1])
            self.cov[:, at, at] = np.where(odd, (sigma**2)[self.study], self.cov[:, at, at])

    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends to be found: side -1 or 1, and the problem's index."""
        usable = self.usable & ~self.zero
        lower, upper = np.flatnonzero(usable & ~self.down), np.flatnonzero(usable & ~self.up)
        return np.repeat([-1.0, 1.0], [len(lower), len(upper)]), np.concatenate([lower, upper])

    def t(self, b: np.ndarray, who: np.ndarray) -> np.ndarray:
        """Return t(b) >= 0 of the problems `who`."""
        which, away = self.which[who], b - self.centre[who]
        guess = self.best[who] + away[:, None] * self.drift[who] - b[:, None] * self.along[which]
        rest = (np.swapaxes(self.across[which], 1, 2) @ guess[..., None])[..., 0]
        wider = np.minimum(np.sqrt(1 + away**2 / (self.variance[who] * self.n[who])), 1e3)
        data = self.model.data.take(self.study[who]).only(self.used[who])
        held = fit(data, self.design[which], b[:, None] * self.offset[which], (rest, self.sigma[who] * wider))
        w = np.maximum(2 * (self.loglik[who] - held.loglik), 0)
        return np.sqrt(self.df[who] * np.expm1(np.minimum(w / self.n[who], 300)))

    def solve(self, who: np.ndarray, side: np.ndarray, critical: np.ndarray) -> np.ndarray:
        """Return b on the given side of the centre with t(b) = critical."""
        step = critical * np.sqrt(self.variance[who] * self.n[who] / self.df[who])

        def t(distance: np.ndarray, index: np.ndarray) -> np.ndarray:
            return self.t(self.centre[who[index]] + side[index] * distance, who[index])

        return self.centre[who] + side * crossing(t, step, critical)


def _complement(c: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of what is orthogonal to c, (p, p - 1); unit vectors where c is 0 (Householder)."""
    if not c.any():
        return np.eye(len(c))[:, 1:]
    at = int(np.argmax(np.abs(c)))
    v = c.copy()
    v[at] += np.copysign(np.linalg.norm(c), c[at])
    return np.delete(np.eye(len(c)) - 2 * np.outer(v, v) / (v @ v), at, 1)


def crossing(t, step: np.ndarray, critical: np.ndarray) -> np.ndarray:
    """Return the distances at which t first comes up to `critical`: secants, kept inside a bracket.

    Args:
        t: (distances, index) -> values >= 0, 0 at distance 0 and rising.
        step: first distances to try, > 0.
        critical: values to reach, > 0.
    """
    inner, outer = np.zeros(len(step)), np.full(len(step), np.inf)
    last, last_t, here = np.zeros(len(step)), np.zeros(len(step)), step.copy()
    active = np.arange(len(step))
    for _ in range(_ROUNDS):
        if not active.size:
            break
        now, bar = here[active], critical[active]
        value = t(now, active)
        short = value < bar
        inner[active], outer[active] = np.where(short, now, inner[active]), np.where(short, outer[active], now)
        low, high = inner[active], outer[active]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (value - last_t[active]) / (now - last[active])
            then = now + (bar - value) / slope
        good = (slope > 0) & (then > low) & (then < np.minimum(high, 4 * now))
        middle = np.where(np.isinf(high), 2 * now, 0.5 * (low + np.where(np.isinf(high), low, high)))
        last[active], last_t[active] = now, value
        going = (np.abs(value - bar) > _TOLERANCE * bar) & (high - low > 1e-12 * (1 + low))
        here[active] = np.where(going, np.where(good, then, middle), now)
        active = active[going]
    return here
