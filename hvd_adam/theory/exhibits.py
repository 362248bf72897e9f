"""Steps at which a clause visibly fails: found in float64, believed when extended precision agrees.

A schedule such as 1 - (sqrt(t^2 + 1) - t) loses its digits to cancellation, and float64 alone would exhibit
falls and zeros that its formula does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hvd_adam.schedules import Schedule
from hvd_adam.theory.numeric import Samples

_TOUCH, _RELATIVE = 1e-15, 1e-12  # a rise of 1 - theta_t by less is rounding


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A failure at a step.

    Attributes:
        says: the values there.
        first: the step; resumes: the first step from which on all that was looked at is well.
        sure: extended precision agrees.
    """

    says: str
    first: int
    resumes: int | None
    sure: bool


def precise(schedule: Schedule, steps: list[float], complement: bool = False) -> np.ndarray:
    """The values at a few steps in extended precision, where the machine has it."""
    t = np.array(steps, dtype=np.longdouble)
    with np.errstate(all="ignore"):
        return np.broadcast_to(schedule._complements(t) if complement else schedule._values(t), t.shape)


def outside(samples: Samples, name: str) -> Exhibit | None:
    """The first step at which beta_t is outside [0, 1), theta_t outside (0, 1), or alpha_t or 1 - theta_t not > 0.

    A tail of zeros of alpha_t is no failure here: clause 4 speaks of it.
    """
    values, schedule, domain = _of(samples, name)
    with np.errstate(invalid="ignore"):
        faults = np.flatnonzero(~_inside(name, values))
    if not faults.size or (name == "alpha" and (values[faults[0] :] == 0).all()):
        return None
    t, last = samples.t, int(faults[-1])
    place, sure = _surest(samples, schedule, name, values, faults)
    resumes = int(t[last + 1]) if last + 1 < min(samples.dense, len(t)) else None
    shown = 1 - values[place] if name == "theta" else values[place]
    return Exhibit(f"{name}_t = {shown:.6g} at t = {t[place]:.0f}, {domain}", int(t[place]), resumes, sure)


def _surest(
    samples: Samples, schedule: Schedule, name: str, values: np.ndarray, faults: np.ndarray
) -> tuple[int, bool]:
    """The first of a few faults that is beyond doubt, else the first fault.

    Beyond doubt is the first fault where extended precision agrees, and a later one whose value, far from
    rounding, is the same in both. Only where every t is looked at: far out both may have lost all digits.
    """
    near = faults[faults < samples.dense]
    before = np.abs(values[: max(1, int(faults[0]))])
    scale = np.max(before, initial=0.0, where=np.isfinite(before))
    for place in near[[0, min(1, len(near) - 1), len(near) // 2, len(near) - 1]] if len(near) else ():
        value = float(precise(schedule, [samples.t[place]], complement="theta" in name)[0])
        outside_too = np.isfinite(value) and not _inside(name, np.array([value]))[0]
        same = abs(value - values[place]) <= 1e-3 * abs(value) and abs(value) > 1e-9 * scale
        if outside_too and (place == faults[0] or same):
            return int(place), True
    return int(faults[0]), False


def _of(samples: Samples, name: str) -> tuple[np.ndarray, Schedule, str]:
    return {
        "alpha": (samples.alphas, samples.alpha, "not > 0"),
        "beta": (samples.betas, samples.beta, "outside [0, 1)"),
        "theta": (samples.complements, samples.theta, "outside (0, 1)"),
        "1 - theta": (samples.complements, samples.theta, "not > 0"),
    }[name]


def _inside(name: str, values: np.ndarray) -> np.ndarray:
    """Of theta, its complements are given."""
    if name in ("alpha", "1 - theta"):
        return values > 0
    return (values >= 0) & (values < 1) if name == "beta" else (values > 0) & (values < 1)


def rises(c: np.ndarray) -> np.ndarray:
    """Where 1 - theta_t exceeds the smallest value before it, by more than rounding."""
    before = np.fmin.accumulate(c)
    return c - before > _RELATIVE * abs(before) + _TOUCH


def fall_of_theta(samples: Samples) -> Exhibit | None:
    """The first step at which theta_t is below a value that it had before."""
    t, c = samples.t, samples.complements
    places = np.flatnonzero(rises(c))
    if not places.size:
        return None
    place = int(places[0])
    low = int(np.nanargmin(c[:place]))
    before, after = precise(samples.theta, [t[low], t[place]], complement=True)
    seen = c[place] - c[low]
    sure = bool(abs((after - before) - seen) <= 0.1 * seen)
    steps = np.flatnonzero(np.diff(c) > _RELATIVE * abs(c[:-1]) + _TOUCH)
    resumes = int(t[steps[-1] + 1]) if steps.size and steps[-1] + 2 < samples.dense else None
    says = f"theta_t falls from {1 - c[low]:.6g} at t = {t[low]:.0f} to {1 - c[place]:.6g} at t = {t[place]:.0f}"
    return Exhibit(says, int(t[place]), resumes, sure)
