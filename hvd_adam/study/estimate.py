"""An estimate: a number that never comes without its interval, its n and the way it was found."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and how sure it is.

    Args:
        estimate: the value; nan where the data do not identify it.
        low, high: ends of the interval; -inf or inf where it is open.
        level: coverage that the interval is made for, 0.95 by default everywhere.
        n: runs that it rests on.
        method: one line: estimator, interval, what was assumed.
    """

    estimate: float
    low: float
    high: float
    level: float
    n: int
    method: str

    @property
    def open(self) -> bool:
        """Whether the data bound the value on one side at most."""
        return not (isfinite(self.low) and isfinite(self.high))

    def covers(self, value: float) -> bool:
        """Return whether the interval holds `value`."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.estimate:.4g} ({100 * self.level:g} % interval {self.low:.4g} to {self.high:.4g}, n = {self.n})"
