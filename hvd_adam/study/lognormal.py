"""The accelerated-failure model: log T = mean of the cell + sigma * normal noise, T known to an interval.

With tau = 1/sigma and delta = tau * coefficients the log-likelihood

    sum_i w_i log( Phi(tau (high_i - o_i) - M_i delta) - Phi(tau (low_i - o_i) - M_i delta) )

is concave in (delta, tau), interval- and right-censored runs included (Burridge 1981), so that Newton's method finds
its one maximum. Everything is vectorised over a leading axis: studies, contrasts, points of a profile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtr

from hvd_adam.study.sample import Sample

_LOG_ROOT_TWO_PI = 0.5 * np.log(2 * np.pi)
_EXACT = 1e-5  # an interval narrower than this, in log T, is its middle: moves the likelihood by 1e-9
_DONE, _DONE_WARM = 1e-16, 1e-9  # Newton decrement, in units of the log-likelihood; for a fit, and along a profile
_ROUNDS = 200
_RIDGE = 1e-10


@dataclass(frozen=True)
class Fit:
    """Maximum-likelihood fits along a leading axis B.

    Args:
        coefficients: (B, p), log steps.
        sigma: spread of log T, (B,).
        loglik: log-likelihood at the maximum, (B,).
        information: observed, of (coefficients, log sigma), (B, p + 1, p + 1).
        bounded: whether sigma ran into its floor: the grid of evaluations is too coarse to see any spread.
    """

    coefficients: np.ndarray
    sigma: np.ndarray
    loglik: np.ndarray
    information: np.ndarray
    bounded: np.ndarray

    def covariance(self) -> np.ndarray:
        """Return the inverse information, (B, p + 1, p + 1); log sigma held where it ran into its floor."""
        held = self.information.copy()
        held[self.bounded, -1, :] = held[self.bounded, :, -1] = 0
        diagonal = np.arange(held.shape[-1])
        held[:, diagonal, diagonal] += _RIDGE * (1 + held[:, diagonal, diagonal])
        return np.linalg.inv(held)


def fit(
    data: Sample,
    design: np.ndarray,
    offset: np.ndarray | None = None,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> Fit:
    """Fit cell means offset + design @ coefficients and one sigma by maximum likelihood.

    Args:
        data: B samples.
        design: (k, p) or (B, k, p). A coefficient that no run depends on stays where it began.
        offset: (k,) or (B, k), log steps; zero where not given.
        start: coefficients (B, p) and sigma (B,) to begin from; ends with a looser tolerance, good for a profile.
    """
    k, p = design.shape[-2:]
    size = len(data.low)
    problem = _Problem(
        data,
        np.broadcast_to(design, (size, k, p)),
        np.broadcast_to(np.zeros(k) if offset is None else offset, (size, k)),
    )
    theta = problem.start() if start is None else problem.resume(*start)
    theta, value, information, bounded = problem.maximise(theta, _DONE if start is None else _DONE_WARM)
    delta, tau = theta[:, :-1], theta[:, -1:]
    # From (delta, tau) to (coefficients, log sigma); at the maximum a second derivative carries over as a form.
    jacobian = np.zeros_like(information)
    jacobian[:, np.arange(p), np.arange(p)] = tau
    jacobian[:, :p, p] = -delta
    jacobian[:, p, p] = -tau[:, 0]
    carried = np.swapaxes(jacobian, 1, 2) @ information @ jacobian
    return Fit(delta / tau, 1 / tau[:, 0], value, carried, bounded)


class _Problem:
    """Log-likelihood, gradient and information of `fit`."""

    def __init__(self, data: Sample, design: np.ndarray, offset: np.ndarray):
        self.member, self.weight = data.member, data.weight
        widths = data.high - data.low
        self.exact = widths <= _EXACT
        self.any_exact = bool(self.exact.any())
        middle = 0.5 * (data.low + data.high) if self.any_exact else data.low
        self.low = np.where(self.exact, middle, data.low)
        self.high = np.where(self.exact, middle, data.high)
        self.design, self.offset = design, offset
        # Sigma far below the width of an evaluation cannot be seen: the likelihood is flat there to 1e-4 a run.
        seen = np.isfinite(widths) & ~self.exact & (self.weight > 0)
        narrowest = np.where(seen, widths, np.inf).min(-1, initial=np.inf)
        self.cap = np.where(np.isinf(narrowest), 1e9, 8 / np.minimum(narrowest, 1e6))

    def start(self) -> np.ndarray:
        """Return (delta, tau) from least squares on the middles of the intervals."""
        low, high = self.low, self.high
        known_low, known_high = np.isfinite(low), np.isfinite(high)
        a, b = np.where(known_low, low, 0), np.where(known_high, high, 0)
        middle = np.where(known_low & known_high, 0.5 * (a + b), np.where(known_low, a + 0.1, b - 0.1))
        y = middle - self.offset @ self.member.T
        count = self.weight @ self.member
        mean = ((self.weight * y) @ self.member) / np.maximum(count, 1e-9)
        weighted = np.swapaxes(self.design * count[..., None], 1, 2)
        gram = weighted @ self.design
        diagonal = np.arange(gram.shape[-1])
        gram[:, diagonal, diagonal] += 1e-9
        coefficients = np.linalg.solve(gram, weighted @ mean[..., None])
        fitted = (self.design @ coefficients)[..., 0] @ self.member.T
        runs = np.maximum(self.weight.sum(-1), 1)
        spread = np.sqrt((self.weight * (y - fitted) ** 2).sum(-1) / runs) + 1e-3
        return self.resume(coefficients[..., 0], spread)

    def resume(self, coefficients: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        tau = np.minimum(1 / sigma, self.cap)[:, None]
        return np.concatenate([coefficients * tau, tau], 1)

    def maximise(self, theta: np.ndarray, done: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the maximiser, its value, its information, and where tau was stopped by its cap."""
        active = np.arange(len(theta))
        state = (theta, *self.terms(theta, active))
        bounded = np.zeros(len(theta), bool)
        for _ in range(_ROUNDS):
            theta, _, gradient, information = state
            g, h = gradient[active], information[active]
            stuck = (theta[active, -1] >= self.cap[active] * (1 - 1e-12)) & (g[:, -1] > 0)
            g[stuck, -1] = 0
            h[stuck, -1, :] = h[stuck, :, -1] = 0
            diagonal = np.arange(h.shape[-1])
            h[:, diagonal, diagonal] += _RIDGE * (1 + h[:, diagonal, diagonal])
            step = np.linalg.solve(h, g[..., None])[..., 0]
            bounded[active] = stuck
            going = (g * step).sum(-1) > done
            active, step = active[going], step[going]
            if not active.size:
                break
            self._advance(state, active, step)
        return state[0], state[1], state[3], bounded

    def _advance(self, state: tuple[np.ndarray, ...], active: np.ndarray, step: np.ndarray) -> None:
        """Take each step, halved until the likelihood rises; in place."""
        theta, value = state[:2]
        tau = theta[active, -1]
        room = np.where(step[:, -1] < 0, 0.9 * tau, self.cap[active] - tau)  # tau stays positive and below its cap
        wanted = np.maximum(np.abs(step[:, -1]), 1e-300)
        scale = np.where(room > 0, np.minimum(1, room / wanted), 1)
        waiting = np.arange(active.size)
        for _ in range(40):
            who = active[waiting]
            trial = theta[who] + scale[waiting, None] * step[waiting]
            trial[:, -1] = np.minimum(trial[:, -1], self.cap[who])
            terms = self.terms(trial, who)
            better = terms[0] >= value[who] - 1e-12 * np.abs(value[who])
            for old, new in zip(state, (trial, *terms), strict=True):
                old[who[better]] = new[better]
            waiting = waiting[~better]
            if not waiting.size:
                return
            scale[waiting] *= 0.5

    def terms(self, theta: np.ndarray, who: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return log-likelihood (B,), gradient (B, p + 1) and observed information (B, p + 1, p + 1)."""
        design, delta, tau, weight = self.design[who], theta[:, :-1], theta[:, -1:], self.weight[who]
        offset = self.offset[who] @ self.member.T
        mean = (design @ delta[..., None])[..., 0] @ self.member.T
        high, low = self.high[who] - offset, self.low[who] - offset
        upper, lower = tau * high - mean, tau * low - mean
        log_p, up, down = _interval(upper, lower)
        closed = np.isfinite(upper)
        high, upper = np.where(closed, high, 0), np.where(closed, upper, 0)
        closed = np.isfinite(lower)
        low, lower = np.where(closed, low, 0), np.where(closed, lower, 0)
        if self.any_exact:
            exact = self.exact[who]
            up, down = np.where(exact, 0, up), np.where(exact, 0, down)
        cross = up * down
        uu, ll = up * (upper + up) - cross, down * (down - lower) - cross
        first, d_tau = down - up, up * high - down * low
        mm, mt = uu + ll, uu * high + ll * low
        tt = mt * high - ll * low * (high - low) + cross * (high - low) ** 2
        if self.any_exact:
            log_p = np.where(exact, np.log(tau) - 0.5 * upper**2 - _LOG_ROOT_TWO_PI, log_p)
            first, d_tau = np.where(exact, upper, first), np.where(exact, 1 / tau - upper * high, d_tau)
            mm, mt = np.where(exact, 1, mm), np.where(exact, high, mt)
            tt = np.where(exact, 1 / tau**2 + high**2, tt)
        transposed = np.swapaxes(design, 1, 2)
        p = delta.shape[1]
        gradient = np.empty((len(theta), p + 1))
        gradient[:, :p] = (transposed @ ((first * weight) @ self.member)[..., None])[..., 0]
        gradient[:, p] = (weight * d_tau).sum(-1)
        information = np.empty((len(theta), p + 1, p + 1))
        information[:, :p, :p] = transposed @ (design * ((mm * weight) @ self.member)[..., None])
        side = -(transposed @ ((mt * weight) @ self.member)[..., None])[..., 0]
        information[:, :p, p] = information[:, p, :p] = side
        information[:, p, p] = (weight * tt).sum(-1)
        return (weight * log_p).sum(-1), gradient, information


def _interval(upper: np.ndarray, lower: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log(Phi(upper) - Phi(lower)) and the densities at both ends divided by that difference."""
    flip = lower > 0  # taken in the lower tail, where nothing cancels
    b, a = np.where(flip, -lower, upper), np.where(flip, -upper, lower)
    p = ndtr(b) - ndtr(a)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_p = np.log(p)
        far = p < 1e-250
        if far.any():
            log_b = log_ndtr(b[far])
            log_p[far] = log_b + np.log(-np.expm1(log_ndtr(a[far]) - log_b))
        up = np.exp(-0.5 * upper**2 - _LOG_ROOT_TWO_PI - log_p)
        down = np.exp(-0.5 * lower**2 - _LOG_ROOT_TWO_PI - log_p)
    return log_p, up, down
