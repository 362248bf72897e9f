"""Schedules that end somewhere: linear, cosine and stepwise decay."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hvd_adam.schedules.base import Schedule
from hvd_adam.schedules.wording import number_text


class _Decay(Schedule):
    """From `start` at t = 1 to `end` at t = steps + 1, constant afterwards; steps None means T."""

    __slots__ = ()
    start: float
    end: float
    steps: int | None

    @property
    def needs_horizon(self) -> bool:
        return self.steps is None

    def with_horizon(self, horizon: int) -> Schedule:
        return self if self.steps is not None else dataclasses.replace(self, steps=horizon)  # type: ignore[type-var]

    def _progress(self, t: np.ndarray) -> Any:
        assert self.steps is not None
        return np.minimum((t - 1) / self.steps, 1.0)

    @property
    def _said(self) -> str:
        return f"min((t - 1)/{self.steps or 'T'}, 1)"


@dataclass(frozen=True, slots=True)
class LinearDecay(_Decay):
    """schedule(t) = start + (end - start) * min((t - 1) / steps, 1)."""

    kind: ClassVar[str] = "linear_decay"
    start: float
    end: float = 0.0
    steps: int | None = None

    def _values(self, t: np.ndarray) -> Any:
        return self.start + (self.end - self.start) * self._progress(t)

    def __str__(self) -> str:
        start, end = number_text(self.start), number_text(self.end)
        return f"{start} + ({end} - {start})*{self._said}" if self.end else f"{start}*(1 - {self._said})"


@dataclass(frozen=True, slots=True)
class CosineDecay(_Decay):
    """schedule(t) = end + (start - end) * (1 + cos(pi min((t - 1) / steps, 1))) / 2."""

    kind: ClassVar[str] = "cosine_decay"
    start: float
    end: float = 0.0
    steps: int | None = None

    def _values(self, t: np.ndarray) -> Any:
        return self.end + (self.start - self.end) * (1.0 + np.cos(np.pi * self._progress(t))) / 2.0

    def __str__(self) -> str:
        start, end, wave = number_text(self.start), number_text(self.end), f"(1 + cos(pi*{self._said}))/2"
        return f"{end} + ({start} - {end})*{wave}" if self.end else f"{start}*{wave}"


@dataclass(frozen=True, slots=True)
class StepDecay(Schedule):
    """schedule(t) = start * factor**floor((t - 1) / every), torch's StepLR with t - 1 steps taken."""

    kind: ClassVar[str] = "step_decay"
    start: float
    factor: float
    every: int

    def _values(self, t: np.ndarray) -> Any:
        return self.start * self.factor ** np.floor((t - 1) / self.every)

    def __str__(self) -> str:
        return f"{number_text(self.start)}, times {number_text(self.factor)} every {self.every} steps"
