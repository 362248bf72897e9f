"""Theorem 17 (Chen et al. 2022, pp. 14-15): the bound that says linear speed-up, and its constants.

The schedule, for a run of T steps and a global batch of s samples:

    alpha_t = alpha / sqrt(T),   theta_t = 1 - theta / T,   beta_t = beta,   v_0 = 1 / (s d)

and the bound on the mean over t of E||grad f(x_t)||:

    F(T, s) = T^-1/2 ( (4 C8 C10)^1/2 + (4 C8 C11)^2/3 + 4 C9 C10 + (4 C9 C11)^2 )

C11 and the second term of C10 are corrected here; docs/bounds.md has the proof. The paper's symbols:
sigma^2 is the total variance of one sample's gradient (A5), the trace of its covariance; L, G, gap and d
are those of `theorem2`. Every function is plain numpy arithmetic over numbers or arrays that broadcast.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hvd_adam.errors import ConfigError


class Theorem17(NamedTuple):
    """The constants under the paper's names (Appendix F), C10 and C11 in the order of their definition."""

    c_7: Any
    c_8: Any
    c_9: Any
    c_10: Any
    c_11: Any


def theorem17(
    *, T: Any, s: Any, sigma: Any, d: Any, alpha: Any, theta: Any, beta: Any, L: Any, G: Any, gap: Any, v_0: Any = None
) -> Theorem17:
    """The constants, with theta_t = 1 - theta/T and gamma = beta^2 / theta_t:

        C7  = 1/(1 - sqrt(gamma)) * ( alpha^2 L / (theta (1 - sqrt(gamma))^2)
                                      + 2 ((2 beta/(1-beta)) / sqrt(1-gamma) + 1)^2 G alpha / sqrt(theta) )
        C8  = sqrt( T (2 sigma^2 theta + v_0 s d) / s ) / alpha
        C9  = sqrt(2 theta) / alpha
        C10 = 2/(1-beta) * ( gap + C7 d T log(1/theta_t) + 2 C7 d (1 + 2 sigma^2/(d v_0 s))^1/4 )
        C11 = (4 d C7/(1-beta)) * (2 theta / (d v_0 T))^1/4

    Args:
        T: steps.
        s: samples of a step, over all workers.
        v_0: start of v; None is the theorem's 1/(s d).

    Raises:
        ConfigError: theta_t < 1/4 or beta^2 >= theta_t: T is too small.
    """
    T, s = np.asarray(T, dtype=float), np.asarray(s, dtype=float)
    _refuse_outside(T, theta, beta)
    v_0 = 1.0 / (s * d) if v_0 is None else v_0
    gamma = beta**2 / (1.0 - theta / T)
    rest = 1.0 - np.sqrt(gamma)
    momentum = (2.0 * beta / (1.0 - beta)) / np.sqrt(1.0 - gamma) + 1.0
    c_7 = (alpha**2 * L / (theta * rest**2) + 2.0 * momentum**2 * G * alpha / np.sqrt(theta)) / rest
    c_8 = np.sqrt(T * (2.0 * sigma**2 * theta + v_0 * s * d) / s) / alpha
    c_9 = np.sqrt(2.0 * theta) / alpha
    log_w = -T * np.log1p(-theta / T)
    noise = (1.0 + 2.0 * sigma**2 / (d * v_0 * s)) ** 0.25
    c_10 = 2.0 / (1.0 - beta) * (gap + c_7 * d * log_w + 2.0 * c_7 * d * noise)
    c_11 = 4.0 * d * c_7 / (1.0 - beta) * (2.0 * theta / (d * v_0 * T)) ** 0.25
    return Theorem17(c_7, c_8, c_9, c_10, c_11)


def terms(constants: Theorem17, T: Any) -> np.ndarray:
    """The four terms of F, each times T^-1/2; shape (4, ...).

    With v_0 = 1/(s d) they go like T^-1/4 s^-1/4 d^1/2 (this one decides), T^-1/3 s^-1/6 d^2/3, T^-1/2 d and
    T^-1 s^1/2 d^2 as T grows.
    """
    _, c_8, c_9, c_10, c_11 = constants
    parts = ((4 * c_8 * c_10) ** 0.5, (4 * c_8 * c_11) ** (2 / 3), 4 * c_9 * c_10, (4 * c_9 * c_11) ** 2)
    return np.stack(np.broadcast_arrays(*parts)) / np.sqrt(T)


def bound(*, T: Any, s: Any, **problem: Any) -> Any:
    """F(T, s); the arguments are those of `theorem17`."""
    return terms(theorem17(T=T, s=s, **problem), T).sum(axis=0)


def shortest_run(theta: float, beta: float) -> float:
    """The T beyond which the theorem speaks: theta_t >= 1/4 and theta_t > beta^2."""
    return max(1.0, 4.0 * theta / 3.0, theta / (1.0 - beta**2))


def steps_to(eps: Any, s: Any, **problem: Any) -> np.ndarray:
    """The T from which on F(T, s) <= eps, as a real number: T(eps, s) of the bound.

    The decreasing terms of F make it unique; found by bisection in log T to a relative 1e-9. An order of
    magnitude: constants of an upper bound. Infinite where e^700 steps are too few.

    Args:
        eps: the gradient norm to reach, > 0.
        problem: sigma, d, alpha, theta, beta, L, G, gap, v_0 of `theorem17`, numbers.

    Raises:
        ConfigError: eps <= 0.
    """
    eps, s = np.broadcast_arrays(np.asarray(eps, dtype=float), np.asarray(s, dtype=float))
    if not np.all((eps > 0) & np.isfinite(eps)):
        raise ConfigError(f"eps: {eps}", "no run brings the gradient norm to 0 or below", "give eps > 0")
    start = np.log(shortest_run(problem["theta"], problem["beta"]) * (1 + 1e-9))
    low, high = np.full(eps.shape, start), np.full(eps.shape, 700.0)
    never = bound(T=np.exp(high), s=s, **problem) > eps
    while np.max(high - low) > 1e-9:
        middle = 0.5 * (low + high)
        reached = bound(T=np.exp(middle), s=s, **problem) <= eps
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.where(never, np.inf, np.exp(high))


def _refuse_outside(T: Any, theta: Any, beta: Any) -> None:
    theta_t = 1.0 - np.asarray(theta) / np.asarray(T)
    if np.any(theta_t < 0.25) or np.any(np.asarray(beta) ** 2 >= theta_t):
        needed = np.max(np.maximum(4 * np.asarray(theta) / 3, np.asarray(theta) / (1 - np.asarray(beta) ** 2)))
        raise ConfigError(
            f"T = {np.min(T):g} steps with theta = {np.max(theta):g}, beta = {np.max(beta):g}",
            "Theorem 17 needs theta_t = 1 - theta/T of at least 1/4, and above beta^2",
            f"take more than {needed:.4g} steps, or lower theta or beta",
        )
