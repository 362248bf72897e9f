"""The domain that training needs of alpha_t, beta_t and theta_t; the stricter clauses are theory's business."""

from __future__ import annotations

import math
from typing import Callable, Sequence

import numpy as np

from hvd_adam.errors import ConfigError
from hvd_adam.schedules.base import Schedule, whole_number

_DOMAINS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "alpha": ("alpha_t must be finite and >= 0", lambda v: np.isfinite(v) & (v >= 0)),
    "beta": ("beta_t must lie in [0, 1)", lambda v: (v >= 0) & (v < 1)),
    "theta": ("theta_t must lie in [0, 1)", lambda v: (v >= 0) & (v < 1)),
}


def check_training_domain(schedule: Schedule, role: str, steps: int) -> None:
    """Checks that training can follow a schedule: every t to 1e6, then 10,000 of each decade.

    Args:
        role: "alpha", "beta" or "theta".
        steps: T, the run's length.

    Raises:
        ConfigError: names the first such t, and the value there.
    """
    rule, holds = _DOMAINS[role]
    schedule = schedule.with_horizon(whole_number("over a run", "steps", steps))
    for block in _steps_to_look_at(steps):
        values = schedule(block)
        bad = np.flatnonzero(~holds(values))
        if bad.size:
            t, value = int(block[bad[0]]), values[bad[0]]
            raise ConfigError(
                f"{role}: {schedule} is {value:g} at t = {t}",
                rule,
                "bound it, for instance with max(..., 0), or start it later (t + 1 in place of t)",
            )


def _steps_to_look_at(steps: int) -> Sequence[np.ndarray]:
    dense = [np.arange(start, min(start + 65536, steps + 1)) for start in range(1, min(steps, 10**6) + 1, 65536)]
    if steps > 10**6:
        dense.append(
            np.unique(np.geomspace(10**6, steps, 10**4 * math.ceil(math.log10(steps / 1e6)) + 1).astype(np.int64))
        )
    return dense
