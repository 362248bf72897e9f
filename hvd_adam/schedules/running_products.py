"""Running products prod_{i<=t} theta_i, far beyond what can be multiplied up."""

from __future__ import annotations

import math
from typing import Any, Callable

import numpy as np

DENSE = 10**6  # up to here each factor is taken
_BLOCK = 2**16
_LOWEST = -100.0  # 1 - exp(-100) is 1 in float64
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_CUTS = 32  # quadrature intervals for each decade


Complements = Callable[[np.ndarray], Any]


def log_running_product(complements: Complements, t: Any, steady: bool = False) -> np.ndarray:
    """log prod_{i<=t} (1 - complements(i)), from complements, so that 1 - prod keeps its digits where it is small.

    Constants: closed form. Others: summed up for every i to 1e6 (it stops where the product is below
    exp(-100), and says -inf there); beyond, the Euler-Maclaurin formula with Gauss quadrature in log i,
    32 intervals a decade, for schedules that are smooth out there (a few 1e-10 of the sum of the logarithms).

    Args:
        complements: i -> 1 - beta_i or 1 - theta_i, in [0, 1]; takes float64 arrays.
        t: steps >= 1, any shape.
        steady: the complement is the same at every i.
    """
    steps = np.asarray(t, dtype=np.float64)
    if steady:
        return steps * _logs(complements, np.asarray(1.0))
    flat = steps.ravel()
    found = np.full(flat.shape, -np.inf)
    longest, total, start = flat.max(initial=1), 0.0, 1
    while start <= min(longest, DENSE) and total > _LOWEST:
        block = np.arange(start, min(start + _BLOCK, DENSE + 1))
        sums = total + np.cumsum(_logs(complements, block))
        inside = (flat >= start) & (flat <= block[-1])
        found[inside] = sums[flat[inside].astype(np.int64) - start]
        total, start = float(sums[-1]), int(block[-1]) + 1
    beyond = flat > DENSE
    if beyond.any() and total > _LOWEST:
        found[beyond] = total + _tail(complements, flat[beyond])
    return found.reshape(steps.shape)


def _logs(complements: Complements, t: np.ndarray) -> Any:
    with np.errstate(all="ignore"):
        return np.log1p(-np.broadcast_to(complements(np.asarray(t, dtype=np.float64)), t.shape))


def _tail(complements: Complements, t: np.ndarray) -> np.ndarray:
    """sum_{DENSE < i <= t} log(1 - complement): the integral, and half of the difference at the ends."""
    order = np.unique(t)
    decades = max(1, math.ceil(_CUTS * math.log10(order[-1] / DENSE)))
    edges = np.unique(np.concatenate((np.geomspace(DENSE, order[-1], decades + 1), order)))
    low, high = np.log(edges[:-1])[:, None], np.log(edges[1:])[:, None]
    points = np.exp((low + high) / 2 + (high - low) / 2 * _NODES)
    pieces = ((_logs(complements, points) * points) @ _WEIGHTS) * (high - low)[:, 0] / 2
    ends = _logs(complements, np.array([float(DENSE)]))
    sums = np.concatenate(([0.0], np.cumsum(pieces))) + (_logs(complements, edges) - ends) / 2
    return sums[np.searchsorted(edges, t)]
