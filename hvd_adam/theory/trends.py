"""What numbers suggest of a limit where algebra does not tell: only ever "holds" or "undecided"."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from hvd_adam.theory.numeric import FAR, largest_rise
from hvd_adam.theory.subject import Subject

_CLEAR = -0.02  # a local exponent above this may be no decay at all
_STEADY = 0.6  # share of the exponent three decades earlier that must be left


class Course(NamedTuple):
    """At each T: clause 4's ratio, T alpha_T, C_0 of the run and chi_1."""

    steps: np.ndarray
    ratio: np.ndarray
    reach: np.ndarray
    rise: np.ndarray
    start: np.ndarray


def course(subject: Subject) -> Course:
    """Along a geometric grid of T up to 1e12: of one sequence, or of one run for each T."""
    if not subject.family:
        samples = subject.samples
        steps = np.array([10.0**k for k in range(3, int(math.log10(samples.far)) + 1)])
        places = [samples.index(t) for t in steps]
        chi = samples.chis
        rises = np.fmax.accumulate(_rises(chi))[places]
        return Course(
            steps, samples.ratios[places], (samples.t * samples.alphas)[places], rises, np.full(len(places), chi[0])
        )
    rows = []
    for steps in sorted({*(10**k for k in range(2, int(math.log10(FAR)) + 1)), subject.steps}):
        samples = subject.samples_at(steps, most=1000)
        alive = np.flatnonzero(samples.alphas > 0)
        end = int(alive[-1]) if alive.size else 0
        rise = largest_rise(samples.t, samples.chis).value
        rows.append(
            (steps, samples.ratios[end], samples.t[end] * samples.alphas[end], rise, samples.chis[0])
        )  # fmt: skip
    return Course(*(np.array(column, dtype=float) for column in zip(*rows, strict=True)))


def ratio_falls(subject: Subject) -> tuple[bool, str]:
    """Whether clause 4's ratio falls like a power over the last decades, as steadily as before; and in words."""
    found = course(subject)
    late, early = _exponent(found, found.ratio, 1e9, 1e12), _exponent(found, found.ratio, 1e6, 1e9)
    reach = _exponent(found, found.reach, 1e9, 1e12)
    says = f"ratio {found.ratio[-1]:.3g} at T = {found.steps[-1]:.3g}, local exponent {late:.3g} (before {early:.3g})"
    return bool(late <= _CLEAR and late <= _STEADY * early and reach > -_CLEAR and _peaks_fall(subject)), says


def _peaks_fall(subject: Subject) -> bool:
    """Whether the largest ratio of each decade falls where every t is known: a grid may miss the peaks."""
    ratios, peaks = subject.samples.ratios[: subject.samples.dense], []
    while len(ratios) >= 1000:
        peaks.append(float(np.max(ratios[len(ratios) // 10 :])))
        ratios = ratios[: len(ratios) // 10]
    return subject.family or all(late < early for late, early in pairwise(peaks))


def chi_settles(subject: Subject) -> tuple[bool, str]:
    """Whether C_0, and chi_1 of a family, no longer grow over the last six decades; and in words."""
    found = course(subject)
    rise, start = _exponent(found, found.rise, 1e6, 1e12), _exponent(found, found.start, 1e6, 1e12)
    says = f"C_0 = {found.rise[-1]:.4g} up to {found.steps[-1]:.3g}"
    chi = subject.samples.chis[: subject.samples.dense]
    before = chi[: max(1, len(chi) // 30)]
    steady = subject.family or _largest(_rises(chi)) <= _largest(_rises(before)) * (1 + 1e-6)
    return bool(rise <= 1e-6 and start <= 1e-6 and steady), says


def _largest(rises: np.ndarray) -> float:
    return float(np.fmax.reduce(rises, initial=1.0))


def _rises(chi: np.ndarray) -> np.ndarray:
    return chi / np.fmin.accumulate(chi)


def _exponent(found: Course, values: np.ndarray, low: float, high: float) -> float:
    """The local exponent d log value / d log T between two T."""
    first, last = (int(np.argmin(abs(np.log(found.steps / t)))) for t in (low, high))
    with np.errstate(all="ignore"):
        return float(np.log(values[last] / values[first]) / np.log(found.steps[last] / found.steps[first]))
