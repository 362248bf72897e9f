"""Where more workers stop paying: the scale s*, the elbow, and the curve of steps against batch.

s counts the samples of a step over all workers: workers x local batch x accumulation.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hvd_adam.errors import ConfigError

# T(s) = 2 T(infinity) is expected between these multiples of s*; 24 of 28 settings were (docs/bounds.md).
PREFACTOR = (0.3, 5.0)

# elbow / s* = RULE[0] alpha^RULE[1] theta^RULE[2] (eps/sqrt(d))^RULE[3]: fitted to 16 settings of Theorem 17's
# schedule on the toy f = sum x^2 + 3 sin^2 x from x_1 = 3; OFF is the largest factor by which it was off on 12 others,
# and TOO_LARGE the one by which it was too large on functions of another shape (docs/reproduction.md).
RULE = (0.441, 1.169, 0.031, -0.429)
OFF, TOO_LARGE = 1.31, 12.0
# what those 28 settings span, and the toy's L and gap / (L d), which make the rule a rule in the toy's units
SPAN = {"alpha": (1.0, 8.0), "theta": (0.5, 10.0), "eps/sqrt(d)": (0.1279, 0.7308)}
_TOY_LIPSCHITZ, _TOY_SQUARE = 8.0, (9 + 3 * math.sin(3) ** 2) / 8


class Range(NamedTuple):
    """A value with a lower and an upper end; the upper may be infinite."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Range:
        """All three times a factor >= 0."""
        return Range(self.value * factor, self.low * factor, self.high * factor)


def s_star(sigma: Any, eps: Any, theta: Any) -> Any:
    """s* = (sigma^2 + 1/(2 theta)) / eps^2, in samples.

    sigma^2/eps^2 is the simple noise scale tr Sigma / ||grad f||^2 at ||grad f|| = eps; 1/(2 theta) is what
    v_0 = 1/(s d) adds under Theorem 17's schedule (C8^2 = 2 theta T (sigma^2 + 1/(2 theta)) / (s alpha^2)).
    theta = infinity leaves it out: for schedules whose v_0 does not follow the batch.

    Raises:
        ConfigError: eps <= 0, sigma <= 0 or theta <= 0.
    """
    for name, value, why in (
        ("eps", eps, "no run brings the gradient norm to 0 or below"),
        ("sigma", sigma, "without gradient noise a larger batch changes nothing, and there is no elbow"),
        ("theta", theta, "theta_t = 1 - theta/T must lie below 1"),
    ):
        array = np.asarray(value, dtype=float)
        if not np.all(array > 0) or (name != "theta" and not np.all(np.isfinite(array))):
            raise ConfigError(f"{name}: {value}", why, f"give {name} > 0")
    return (np.square(sigma) + 0.5 / np.asarray(theta, dtype=float)) / np.square(eps)


def elbow(scale: Range, prefactor: tuple[float, float] = PREFACTOR) -> Range:
    """Where T(s) = 2 T(infinity) is expected: prefactor x s*, its ends those of both; value at the geometric middle.

    Args:
        scale: s*, or a measured noise scale, with its interval.
        prefactor: the range of elbow / s*.
    """
    low, high = prefactor
    return Range(scale.value * (low * high) ** 0.5, scale.low * low, scale.high * high)


def ruled(
    *, alpha: float, theta: float, eps: float, d: int, lipschitz: float | None = None, gap: float | None = None,
    toy: bool = False,
) -> tuple[tuple[float, float] | None, str]:  # fmt: skip
    """The range of elbow / s* by RULE, and what it rests on; None where the rule was not tried.

    With L and gap = f(x_1) - f*, lengths count in units of R = sqrt(gap / (L d)) and gradients in units of L R, so
    that x -> c x and f -> c f change nothing: alpha becomes alpha/R and eps becomes eps/(L R), each times the toy's.
    Without them the problem is taken to have the toy's. What is left is the shape of f: where some curvatures are far
    below L, the rule is too large. `toy` says that f is the toy.
    """
    length, slope = units(lipschitz, gap, d) if lipschitz and gap and gap > 0 else (1.0, 1.0)
    inputs = {"alpha": alpha / length, "theta": theta, "eps/sqrt(d)": eps / slope / math.sqrt(d)}
    for (name, value), (low, high) in zip(inputs.items(), SPAN.values(), strict=True):
        if not low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
            return None, f"no rule: {name} = {value:.3g} in units of the toy, tried from {low:g} to {high:g}"
    constant, *powers = RULE
    middle = constant * math.prod(value**power for value, power in zip(inputs.values(), powers, strict=True))
    if toy:
        return (middle / OFF, middle * OFF), f"by the toy's rule, {middle:.3g}, which was off by up to {OFF:.2f}x"
    ground = f"by the toy's rule, {middle:.3g}, which was up to {TOO_LARGE:g}x too large on functions of other shapes"
    return (middle / TOO_LARGE, middle * OFF), ground


def units(lipschitz: float, gap: float, d: int) -> tuple[float, float]:
    """R = sqrt(gap / (L d)) and L R, over those of the toy.

    >>> [round(unit, 6) for unit in units(8.0, 10 * (9 + 3 * math.sin(3) ** 2), 10)]
    [1.0, 1.0]
    """
    length = math.sqrt(gap / (lipschitz * d) / _TOY_SQUARE)
    return length, length * lipschitz / _TOY_LIPSCHITZ


def relative_steps(s: Any, at: Any) -> Any:
    """T(s) / T(infinity) = 1 + elbow/s: S = S_min (1 + B_crit/B) of McCandlish et al. 2018 (arXiv 1812.06162)."""
    return 1.0 + np.asarray(at, dtype=float) / np.asarray(s, dtype=float)


def efficiency(s: Any, at: Any) -> Any:
    """Of a perfect speed-up, the share that is left at s: elbow / (s + elbow); 1 where the elbow is infinite.

    Samples to the target are 1/efficiency times those of the smallest batch; 1/2 at the elbow.
    """
    at, s = np.asarray(at, dtype=float), np.asarray(s, dtype=float)
    return np.where(np.isinf(at), 1.0, at / np.where(np.isinf(at), 1.0, s + at))


def batch_of(share: float, at: float) -> float:
    """The s at which `efficiency` has fallen to `share`, 0 < share < 1."""
    return at * (1.0 - share) / share
