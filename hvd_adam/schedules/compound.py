"""Schedules made of others: warm-up, pieces, products, and torch's bias correction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hvd_adam.errors import ConfigError
from hvd_adam.schedules.base import Schedule
from hvd_adam.schedules.laws import Constant, HorizonAlpha, HorizonTheta, Power
from hvd_adam.schedules.running_products import log_running_product


@dataclass(frozen=True, slots=True)
class LinearWarmup(Schedule):
    """`then`, multiplied by t / steps until t = steps."""

    kind: ClassVar[str] = "linear_warmup"
    then: Schedule
    steps: int

    @property
    def parts(self) -> tuple[Schedule, ...]:
        return (self.then,)

    def with_horizon(self, horizon: int) -> Schedule:
        return with_horizon_in(self, horizon, "then")

    def _values(self, t: np.ndarray) -> Any:
        return self.then._values(t) * np.minimum(t / self.steps, 1.0)

    def __str__(self) -> str:
        return f"{bracketed(self.then)}*min(t/{self.steps}, 1)"


@dataclass(frozen=True, slots=True)
class Piecewise(Schedule):
    """pieces[i] for boundaries[i-1] < t <= boundaries[i]; each piece sees the same t.

    Args:
        boundaries: the last t of each piece but the last, increasing.
        pieces: one more than boundaries.
    """

    kind: ClassVar[str] = "piecewise"
    boundaries: tuple[int, ...]
    pieces: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        if len(self.pieces) != len(self.boundaries) + 1 or list(self.boundaries) != sorted(set(self.boundaries)):
            raise ConfigError(
                f"piecewise with {len(self.pieces)} pieces and boundaries {list(self.boundaries)}",
                "n boundaries, in increasing order, separate n + 1 pieces",
                "add or remove a piece",
            )

    @property
    def parts(self) -> tuple[Schedule, ...]:
        return self.pieces

    def with_horizon(self, horizon: int) -> Schedule:
        return dataclasses.replace(self, pieces=tuple(piece.with_horizon(horizon) for piece in self.pieces))

    def _choose(self, t: np.ndarray, values: Iterable[Any]) -> Any:
        which = np.searchsorted(np.asarray(self.boundaries), t, side="left")
        chosen = np.empty(t.shape)
        for number, value in enumerate(values):  # np.choose takes 64 at most
            np.copyto(chosen, value, where=which == number)
        return chosen

    def _values(self, t: np.ndarray) -> Any:
        return self._choose(t, (piece._values(t) for piece in self.pieces))

    def _complements(self, t: np.ndarray) -> Any:
        return self._choose(t, (piece._complements(t) for piece in self.pieces))

    def __str__(self) -> str:
        said = [f"{piece} until t = {last}" for piece, last in zip(self.pieces, self.boundaries, strict=False)]
        return ", then ".join([*said, str(self.pieces[-1])])


@dataclass(frozen=True, slots=True)
class Product(Schedule):
    """The product of its factors at the same t."""

    kind: ClassVar[str] = "product"
    factors: tuple[Schedule, ...]

    @property
    def parts(self) -> tuple[Schedule, ...]:
        return self.factors

    def with_horizon(self, horizon: int) -> Schedule:
        return Product(tuple(factor.with_horizon(horizon) for factor in self.factors))

    def _values(self, t: np.ndarray) -> Any:
        return math.prod([factor._values(t) for factor in self.factors], start=np.ones(()))

    def _complements(self, t: np.ndarray) -> Any:
        value, left = np.ones(()), np.zeros(())
        for factor in self.factors:
            before, value = value, value * factor._values(t)
            inside = (before >= 0) & (before <= 1) & (value >= 0) & (value <= before)
            left = np.where(inside, left + before * factor._complements(t), 1.0 - value)
        return left

    def __str__(self) -> str:
        return "*".join(map(bracketed, self.factors)) or "1"


@dataclass(frozen=True, slots=True)
class BiasCorrected(Schedule):
    """torch's bias correction said as a schedule (theory: Kingma and Ba 2015, section 3).

        schedule(t) = alpha_t sqrt(1 - prod theta_i) / (1 - prod beta_i),    products over i <= t

    The same map as torch's only if epsilon, too, is scaled by sqrt(1 - prod theta_i). The products are
    those of `running_products`: closed form for constants, every i to 1e6, quadrature beyond.
    """

    kind: ClassVar[str] = "bias_corrected"
    alpha: Schedule
    beta: Schedule
    theta: Schedule

    @property
    def parts(self) -> tuple[Schedule, ...]:
        return (self.alpha, self.beta, self.theta)

    def with_horizon(self, horizon: int) -> Schedule:
        return with_horizon_in(self, horizon, "alpha", "beta", "theta")

    def _values(self, t: np.ndarray) -> Any:
        left_theta, left_beta = (-np.expm1(_log_product(part, t)) for part in (self.theta, self.beta))
        return self.alpha._values(t) * np.sqrt(left_theta) / left_beta

    def __str__(self) -> str:
        if isinstance(self.beta, Constant) and isinstance(self.theta, Constant):
            return f"{bracketed(self.alpha)}*sqrt(1 - {self.theta}^t)/(1 - {self.beta}^t)"
        return f"{self.alpha}, bias corrected for {self.beta} and {self.theta}"


def _log_product(schedule: Schedule, t: np.ndarray) -> np.ndarray:
    steady = isinstance(schedule, (Constant, HorizonAlpha, HorizonTheta))
    return log_running_product(schedule._complements, t, steady)


def bracketed(schedule: Schedule) -> str:
    return str(schedule) if isinstance(schedule, (Constant, Power)) else f"({schedule})"


def with_horizon_in(schedule: Any, horizon: int, *names: str) -> Any:
    return dataclasses.replace(schedule, **{n: getattr(schedule, n).with_horizon(horizon) for n in names})
