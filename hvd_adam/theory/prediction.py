"""How many steps, and how many workers pay, predicted from a few numbers: the curve T(eps, s) and its elbow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Sequence

import numpy as np

from hvd_adam.errors import ConfigError
from hvd_adam.theory import theorem17
from hvd_adam.theory.elbow import PREFACTOR, Range, batch_of, efficiency, elbow, relative_steps, s_star

LINEAR, PAYS = 0.8, 0.5  # shares of a perfect speed-up


class Row(NamedTuple):
    """One batch.

    Attributes:
        workers, batch: s = workers x samples of each.
        relative: T(s) / T(infinity); `value` is for the middle of the elbow's range.
        share: of a perfect speed-up over the smallest batch there is.
        steps: T(s), where a measured point was given.
        bound: the T at which Theorem 17's bound comes down to eps; nan where its constants are not known.
    """

    workers: int
    batch: int
    relative: Range
    share: Range
    steps: Range | None
    bound: float


@dataclass(frozen=True)
class Prediction:
    """s*, the elbow, and a row for each number of workers.

    Attributes:
        prefactor: the range of elbow / s*; `ground` says what it rests on.
        linear, pays: the s up to which 80 % and half of a perfect speed-up are left.
    """

    eps: float
    sigma: Range
    theta: float
    s_star: Range
    prefactor: tuple[float, float]
    ground: str
    elbow: Range
    linear: Range
    pays: Range
    worker_batch: int
    rows: tuple[Row, ...]


def predict(
    sigma: Range,
    eps: float,
    *,
    theta: float,
    worker_batch: int = 1,
    workers: Sequence[int],
    known: tuple[int, float] | None = None,
    problem: dict[str, Any] | None = None,
    prefactor: tuple[float, float] = PREFACTOR,
    ground: str = "",
) -> Prediction:
    """The curve T(eps, s) = T(infinity) (1 + elbow/s).

    Args:
        sigma: square root of the total variance of one sample's gradient, with an interval where it was measured.
        eps: gradient norm to reach.
        theta: of Theorem 17's schedule; infinity for one whose v_0 does not follow the batch.
        worker_batch: samples of one worker a step.
        workers: the counts to tabulate.
        known: (s, T): a measured point that turns ratios into steps.
        problem: d, alpha, beta, L, G and gap of `theorem17`: the bound is then inverted too.
        prefactor, ground: the range of elbow / s*, and what it rests on; see `elbow.ruled`.

    Raises:
        ConfigError: sigma, eps or theta not above 0, or a batch below 1.
    """
    if worker_batch < 1 or min(workers, default=0) < 1:
        raise ConfigError(
            f"{min(workers, default=0)} workers x {worker_batch} samples", "each is at least 1", "raise it"
        )
    if any(1e150 < one < np.inf for one in (*sigma, eps)) or 0 < eps < 1e-150:
        raise ConfigError(
            f"sigma = {sigma.value:g}, eps = {eps:g}", "floats do not hold their squares", "scale the loss"
        )
    middle = float(s_star(sigma.value, eps, theta))
    low, high = (middle + (end**2 - sigma.value**2) / eps**2 for end in (sigma.low, sigma.high))  # low may be 0
    scale = Range(middle, max(0.0, low), high)
    at = elbow(scale, prefactor)
    batches = np.asarray(workers) * worker_batch
    bounds = np.full(len(batches), np.nan)
    if problem is not None:
        bounds = theorem17.steps_to(eps, batches, sigma=sigma.value, theta=theta, **problem)
    rows = []
    for count, batch, bound in zip(workers, batches, bounds, strict=True):
        relative = Range(*(float(relative_steps(batch, end)) for end in at))
        share = Range(*(float(efficiency(batch, end)) for end in at))
        rows.append(Row(int(count), int(batch), relative, share, _known_steps(batch, at, known), float(bound)))
    linear, pays = (Range(*(batch_of(part, end) for end in at)) for part in (LINEAR, PAYS))
    return Prediction(eps, sigma, theta, scale, prefactor, ground, at, linear, pays, worker_batch, tuple(rows))


def _known_steps(batch: int, at: Range, known: tuple[int, float] | None) -> Range | None:
    if known is None:
        return None
    there, steps = known
    if not (there >= 1 and 0 < steps < np.inf):
        raise ConfigError(f"--known {there}:{steps:g}", "it is a batch and the steps it took", "write --known 64:1200")
    values = [float(steps * relative_steps(batch, end) / relative_steps(there, end)) for end in at]
    return Range(values[0], min(values), max(values))
