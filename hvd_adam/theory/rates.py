"""Rates: how fast the bounds fall, as exponents.

A rate is T^-power (log T)^log_power, without its constant.
"""

from __future__ import annotations

from typing import NamedTuple

from hvd_adam.errors import ConfigError


class Rate(NamedTuple):
    """T^-power (log T)^log_power; power 0 is no rate at all."""

    power: float
    log_power: float = 0.0

    def __str__(self) -> str:
        if self.power == 0:
            return "O(1)"
        log = "" if not self.log_power else f" (log T)^{self.log_power:g}"
        return f"O(T^-{self.power:.4g}{log})"


def polynomial_rate(r: float, s: float) -> Rate:
    """The rate of E||grad f(x_tau)|| for alpha_t = eta/t^s, theta_t = 1 - alpha/t^r (Corollary 10, p. 10).

    For 0 < r <= 2 s < 2:

        T^(-r/4)                    r/2 + s < 1
        sqrt(log T / T^(1-s))       r/2 + s = 1
        T^(-(1-s)/2)                r/2 + s > 1

    Elsewhere the corollary shows nothing: O(1).
    """
    if not 0 < r <= 2 * s < 2:
        return Rate(0.0)
    edge = r / 2 + s
    if edge < 1:
        return Rate(r / 4)
    return Rate((1 - s) / 2, 0.5 if edge == 1 else 0.0)


class Exponents(NamedTuple):
    """A term of Theorem 17's F goes like T^t s^batch d^dim (v_0 = 1/(s d)), as T grows."""

    t: float
    batch: float
    dim: float


# In the order of `theorem17.terms`; they follow from the constants there.
SPEEDUP_TERMS = (
    Exponents(-1 / 4, -1 / 4, 1 / 2),
    Exponents(-1 / 3, -1 / 6, 2 / 3),
    Exponents(-1 / 2, 0.0, 1.0),
    Exponents(-1.0, 1 / 2, 2.0),
)


class Moved(NamedTuple):
    """Settings after a change of the global batch."""

    alpha: float
    beta: float
    theta_complement: float
    v_0: float


def moved(k: float, *, alpha: float, beta: float, theta_complement: float, v_0: float) -> Moved:
    """How to keep the accuracy while the global batch s becomes k s: the square-root rule.

        alpha_t -> alpha_t sqrt(k),    1 - theta_t -> k (1 - theta_t),    v_0 -> v_0 / k,    beta stays

    It is what Theorem 17's schedule does when the run becomes k times shorter: alpha/sqrt(T/k), theta/(T/k)
    and 1/(k s d).

    Args:
        k: new batch over old, > 0.
        theta_complement: 1 - theta_t.

    Raises:
        ConfigError: k <= 0, or k (1 - theta_t) >= 1: there is no such theta.
    """
    if not 0 < k < float("inf"):
        raise ConfigError(f"k: {k}", "it is a ratio of two batches", "give k > 0")
    if not k * theta_complement < 1:
        raise ConfigError(
            f"k = {k:g} with 1 - theta = {theta_complement:g}",
            f"theta would become {1 - k * theta_complement:.4g}, and it must stay above 0",
            f"keep k below {1 / theta_complement:.4g}",
        )
    return Moved(alpha * k**0.5, beta, theta_complement * k, v_0 / k)
