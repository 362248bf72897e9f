"""Theorem 2 (Chen et al. 2022, p. 8): the bound on the mean gradient norm of generic Adam, and its constants.

    E||grad f(x_tau)|| <= sqrt( (C + C' sum_{t<=T} alpha_t sqrt(1 - theta_t)) / (T alpha_T) ),   tau uniform on 1..T

Every function is plain numpy arithmetic: arguments are numbers or arrays that broadcast.

Symbols, the same everywhere in this room:

| symbol | what it is | unit |
|---|---|---|
| L | Lipschitz constant of grad f (A2) | f / x^2 |
| G | root of the bound on E||g_t||^2 (A4) | f / x |
| gap | f(x_1) - f*, called C_4 in the paper | f |
| d | number of variables | 1 |
| eps | start of v, v_0 = (eps, ..., eps) | (f / x)^2 |
| beta | the bound on beta_t, 0 <= beta < 1 | 1 |
| theta' | beta^2 < theta' <= lim theta_t | 1 |
| C_0 | smallest constant of clause 3: sup over i <= t of chi_t / chi_i | 1 |
| chi_1 | alpha_1 / sqrt(1 - theta_1) | x |
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hvd_adam.errors import ConfigError


class Theorem2(NamedTuple):
    """C_1 and C_3 as in the paper; C and C' (`c_prime`) are those of the bound."""

    c_1: Any
    c_3: Any
    c_prime: Any
    c: Any


def pick_theta_prime(theta_1: float, theta_limit: float, beta: float) -> float:
    """theta', strictly between beta^2 and lim theta_t, or theta itself where theta_t is constant.

    theta_1 where it exceeds beta^2: C_1 is then 1. Else the middle of the open interval.

    Raises:
        ConfigError: beta^2 >= lim theta_t: the theorem says nothing.
    """
    if not beta**2 < theta_limit:
        raise ConfigError(
            f"beta {beta:g}, theta {theta_limit:g}",
            f"Theorem 2 needs beta^2 < theta, and beta^2 is {beta**2:g}",
            f"lower beta below {np.sqrt(theta_limit):.6g}",
        )
    return theta_1 if theta_1 > beta**2 else 0.5 * (beta**2 + theta_limit)


def c_1(theta: Any, theta_prime: float) -> float:
    """C_1 = prod_{j<=N} theta_j / theta', N the last j with theta_j < theta'; 1 where there is none.

    Args:
        theta: theta_1, theta_2, ..., non-decreasing, at least as far as theta'.
    """
    theta = np.asarray(theta, dtype=float)
    return float(np.exp(np.sum(np.log(theta[theta < theta_prime] / theta_prime))))


def theorem2(
    *, L: Any, G: Any, gap: Any, d: Any, eps: Any, beta: Any, theta_1: Any, theta_prime: Any, C_0: Any, chi_1: Any,
    C_1: Any = 1.0,
) -> Theorem2:  # fmt: skip
    """The constants, with gamma = beta^2 / theta':

        C_3 = C_0 / (sqrt(C_1) (1 - sqrt(gamma)))
              * [ C_0^2 chi_1 L / (C_1 (1 - sqrt(gamma))^2)
                  + 2 ((beta/(1-beta)) / sqrt(C_1 (1-gamma) theta_1) + 1)^2 G ]
        C'  = 2 C_0^2 C_3 d sqrt(G^2 + eps d) / ((1 - beta) theta_1)
        C   = 2 C_0 sqrt(G^2 + eps d) / (1 - beta) * [ gap + C_3 C_0 d chi_1 log(1 + G^2/(eps d)) ]

    Raises:
        ConfigError: a symbol that must be positive is not, or beta^2 >= theta'.
    """
    _refuse_outside(L=L, G=G, d=d, eps=eps, C_0=C_0, chi_1=chi_1, C_1=C_1, theta_1=theta_1)
    if np.any(np.asarray(beta) ** 2 >= theta_prime):
        raise ConfigError(
            "beta^2 >= theta'", "Theorem 2 needs beta^2 < theta' (its gamma below 1)", "lower beta, or raise theta"
        )
    gamma = beta**2 / theta_prime
    rest = 1.0 - np.sqrt(gamma)
    momentum = (beta / (1.0 - beta)) / np.sqrt(C_1 * (1.0 - gamma) * theta_1) + 1.0
    c_3 = C_0 / (np.sqrt(C_1) * rest) * (C_0**2 * chi_1 * L / (C_1 * rest**2) + 2.0 * momentum**2 * G)
    root = np.sqrt(G**2 + eps * d)
    c_prime = 2.0 * C_0**2 * c_3 * d * root / ((1.0 - beta) * theta_1)
    c = 2.0 * C_0 * root / (1.0 - beta) * (gap + c_3 * C_0 * d * chi_1 * np.log1p(G**2 / (eps * d)))
    return Theorem2(C_1, c_3, c_prime, c)


def bound(constants: Theorem2, *, steps: Any, alpha_last: Any, total: Any) -> Any:
    """The bound on E||grad f(x_tau)||.

    Args:
        steps: T.
        alpha_last: alpha_T.
        total: sum_{t<=T} alpha_t sqrt(1 - theta_t).
    """
    return np.sqrt((constants.c + constants.c_prime * total) / (steps * alpha_last))


def bound_of_schedule(alpha: Any, theta: Any, *, beta: float, **problem: Any) -> np.ndarray:
    """The bound after each of T = 1, 2, ... steps of schedules given by their values.

    theta' and C_0 are those of the whole stretch, so that the last value is the bound at its end.

    Args:
        alpha, theta: alpha_t and theta_t, t = 1, 2, ...; theta non-decreasing.
        problem: L, G, gap, d, eps.
    """
    alpha, theta = np.asarray(alpha, dtype=float), np.asarray(theta, dtype=float)
    chi = alpha / np.sqrt(1.0 - theta)
    theta_prime = pick_theta_prime(float(theta[0]), float(theta[-1]), beta)
    constants = theorem2(
        **problem, beta=beta, theta_1=theta[0], theta_prime=theta_prime, C_1=c_1(theta, theta_prime), chi_1=chi[0],
        C_0=float(np.max(chi / np.minimum.accumulate(chi))),
    )  # fmt: skip
    total = np.cumsum(alpha * np.sqrt(1.0 - theta))
    return bound(constants, steps=np.arange(1, len(alpha) + 1), alpha_last=alpha, total=total)


def floor(c_prime: Any, theta: Any, s: Any) -> Any:
    """What the bound tends to for constant theta and alpha_t = eta / t^s (Corollary 7, pp. 9-10).

        sqrt( C' sqrt(1 - theta) / (1 - s) ),   0 <= s < 1

    A floor of the upper bound, no proof of divergence.
    """
    return np.sqrt(c_prime * np.sqrt(1.0 - np.asarray(theta)) / (1.0 - np.asarray(s)))


def _refuse_outside(**values: Any) -> None:
    for name, value in values.items():
        if not np.all((np.asarray(value, dtype=float) > 0) & np.isfinite(value)):
            raise ConfigError(f"{name}: {value}", "the bound needs it finite and above 0", f"give {name} > 0")
