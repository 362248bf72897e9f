"""The elementary laws: constant, powers, and what Theorem 17 and AdamNC ask for."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hvd_adam.schedules.base import Schedule
from hvd_adam.schedules.wording import number_text, power_text


@dataclass(frozen=True, slots=True)
class Constant(Schedule):
    """schedule(t) = value."""

    kind: ClassVar[str] = "constant"
    value: float

    def _values(self, t: np.ndarray) -> Any:
        return self.value

    def to_plain(self) -> Any:
        return self.value

    def __str__(self) -> str:
        return number_text(self.value)


@dataclass(frozen=True, slots=True)
class Power(Schedule):
    """Power law.

        schedule(t) = scale / t**exponent

    With exponent 1/2 this is the alpha_t of Corollary 10 (p. 10).

    Args:
        scale: value at t = 1.
        exponent: decay s; 0 <= s < 1 for convergence, other values are allowed.
    """

    kind: ClassVar[str] = "power"
    scale: float
    exponent: float

    def _values(self, t: np.ndarray) -> Any:
        return self.scale / t**self.exponent

    def __str__(self) -> str:
        return f"{number_text(self.scale)}/{power_text('t', self.exponent)}"


@dataclass(frozen=True, slots=True)
class PolynomialTheta(Schedule):
    """The theta_t of equation (8) (p. 10).

        schedule(t) = 1 - alpha / max(t, start)**exponent

    Args:
        alpha: distance from 1 at t = 1 where start = 1; alpha < start**exponent keeps theta_t > 0.
        exponent: r > 0; clause 3 needs r <= 2 s.
        start: K >= 1; theta_t is constant before it. start = 1 with alpha = 1 gives theta_1 = 0.
    """

    kind: ClassVar[str] = "polynomial_theta"
    alpha: float
    exponent: float
    start: int = 1

    def _values(self, t: np.ndarray) -> Any:
        return 1.0 - self._complements(t)

    def _complements(self, t: np.ndarray) -> Any:
        return self.alpha / np.maximum(t, self.start) ** self.exponent

    def __str__(self) -> str:
        base = "t" if self.start == 1 else f"max(t, {self.start})"
        return f"1 - {number_text(self.alpha)}/{power_text(base, self.exponent)}"


@dataclass(frozen=True, slots=True)
class HorizonAlpha(Schedule):
    """alpha_t = alpha / sqrt(T), constant over a run of T steps (Theorem 17, p. 14)."""

    kind: ClassVar[str] = "horizon_alpha"
    alpha: float
    horizon: int | None = None

    @property
    def needs_horizon(self) -> bool:
        return self.horizon is None

    def with_horizon(self, horizon: int) -> Schedule:
        return self if self.horizon is not None else dataclasses.replace(self, horizon=horizon)

    def _values(self, t: np.ndarray) -> Any:
        assert self.horizon is not None
        return self.alpha / math.sqrt(self.horizon)

    def __str__(self) -> str:
        return f"{number_text(self.alpha)}/sqrt({self.horizon or 'T'})"


@dataclass(frozen=True, slots=True)
class HorizonTheta(Schedule):
    """theta_t = 1 - theta / T, constant over a run of T steps (Theorem 17, p. 14)."""

    kind: ClassVar[str] = "horizon_theta"
    theta: float
    horizon: int | None = None

    @property
    def needs_horizon(self) -> bool:
        return self.horizon is None

    def with_horizon(self, horizon: int) -> Schedule:
        return self if self.horizon is not None else dataclasses.replace(self, horizon=horizon)

    def _values(self, t: np.ndarray) -> Any:
        return 1.0 - self._complements(t)

    def _complements(self, t: np.ndarray) -> Any:
        assert self.horizon is not None
        return self.theta / self.horizon

    def __str__(self) -> str:
        return f"1 - {number_text(self.theta)}/{self.horizon or 'T'}"


@dataclass(frozen=True, slots=True)
class Geometric(Schedule):
    """schedule(t) = scale * ratio**t, the beta_t of AdamNC (p. 11)."""

    kind: ClassVar[str] = "geometric"
    scale: float
    ratio: float

    def _values(self, t: np.ndarray) -> Any:
        return self.scale * self.ratio**t

    def __str__(self) -> str:
        return f"{number_text(self.scale)}*{number_text(self.ratio)}^t"
