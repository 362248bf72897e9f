"""Problems with known answers: what generic Adam does on them can be compared with a formula.

A problem splits each coordinate of a stochastic gradient in two,

    g_i(x, u) = a(x_i) + u b(x_i),        grad f(x)_i = a(x_i) + mean b(x_i),

where u is drawn (`draws`) and does not depend on x. A batch of s samples has the mean of s draws for u, so that a
step costs the same for every s. `law` and `parameters` say a and b to the compiled loop (`theory.loops`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

TOY, PSEUDO_HUBER, QUADRATIC, SQUARE, CLIPPED_SQUARE, LINEAR = range(6)


class Problem(Protocol):
    """What the loops ask of a problem.

    Attributes:
        law, parameters: which a and b, and their constants (float64).
        d: number of variables.
        start: x_1, the same in every coordinate.
        mean: E[u]
        box: the interval that every coordinate is projected to after a step; infinite where there is none.
    """

    @property
    def law(self) -> int: ...
    @property
    def d(self) -> int: ...
    @property
    def start(self) -> float: ...
    @property
    def mean(self) -> float: ...
    @property
    def box(self) -> tuple[float, float]: ...
    @property
    def parameters(self) -> np.ndarray: ...

    def objective(self, x: np.ndarray) -> np.ndarray:
        """f(x) for x of shape (..., d): shape (...)."""

    def draws(self, rng: np.random.Generator, first: int, count: int, batch: int) -> np.ndarray:
        """u of the steps first, ..., first + count - 1, each the mean of `batch` draws: shape (count, d)."""


EVERYWHERE = (-np.inf, np.inf)


@dataclass(frozen=True)
class _Normal:
    """Normal noise of total variance sigma^2 (assumption A5), alike in all directions.

    The mean of s independent draws is one draw of variance sigma^2 / s, and is drawn as such.
    """

    mean: ClassVar[float] = 0.0
    box: ClassVar[tuple[float, float]] = EVERYWHERE
    f_star: ClassVar[float] = 0.0

    def draws(self, rng: np.random.Generator, first: int, count: int, batch: int) -> np.ndarray:
        found = rng.standard_normal((count, self.d))  # type: ignore[attr-defined]
        found *= self.sigma / np.sqrt(self.d * batch)  # type: ignore[attr-defined]
        return found


@dataclass(frozen=True)
class Toy(_Normal):
    """f(x) = sum x_i^2 + a sin(x_i)^2, smooth, non-convex for a > 1, its one stationary point 0 for a < 4.6.

    L = 2 + 2 a. Its gradient is unbounded, so that (A4) holds on bounded paths only.
    """

    law: ClassVar[int] = TOY
    d: int = 10
    a: float = 3.0
    sigma: float = 20.0
    start: float = 3.0

    @property
    def parameters(self) -> np.ndarray:
        return np.array([self.a, 0.0])

    @property
    def lipschitz(self) -> float:
        """L = 2 + 2 a"""
        return 2.0 + 2.0 * self.a

    def objective(self, x: np.ndarray) -> np.ndarray:
        return np.sum(x**2 + self.a * np.sin(x) ** 2, axis=-1)


@dataclass(frozen=True)
class PseudoHuber(_Normal):
    """f(x) = sum 2 delta^2 (sqrt(1 + (x_i/delta)^2) - 1) + a sin(x_i)^2: the toy, its gradient bounded: (A4) holds.

    L = 2 + 2 a, and E||g||^2 <= G^2 = d (2 delta + a)^2 + sigma^2.
    """

    law: ClassVar[int] = PSEUDO_HUBER
    d: int = 10
    a: float = 3.0
    delta: float = 5.0
    sigma: float = 20.0
    start: float = 3.0

    @property
    def parameters(self) -> np.ndarray:
        return np.array([self.a, self.delta])

    @property
    def lipschitz(self) -> float:
        """L = 2 + 2 a"""
        return 2.0 + 2.0 * self.a

    @property
    def bound(self) -> float:
        """G of (A4), for one sample."""
        return float(np.sqrt(self.d * (2 * self.delta + self.a) ** 2 + self.sigma**2))

    def objective(self, x: np.ndarray) -> np.ndarray:
        y = (x / self.delta) ** 2
        return np.sum(2 * self.delta**2 * y / (np.sqrt(1 + y) + 1) + self.a * np.sin(x) ** 2, axis=-1)


@dataclass(frozen=True)
class Quadratic:
    """f(x) = 1/2 sum h_i x_i^2 with normal noise of covariance diag(c), sum c = sigma^2.

    Args:
        spectrum: the eigenvalues h_i >= 0.
        curved: c_i proportional to h_i (Zhang et al. 2019, section 3) instead of all alike.
    """

    law: ClassVar[int] = QUADRATIC
    mean: ClassVar[float] = 0.0
    box: ClassVar[tuple[float, float]] = EVERYWHERE
    f_star: ClassVar[float] = 0.0
    spectrum: tuple[float, ...] = (1.0, 0.1, 0.01)
    sigma: float = 1.0
    curved: bool = False
    start: float = 1.0

    @property
    def d(self) -> int:
        """The number of eigenvalues."""
        return len(self.spectrum)

    @property
    def parameters(self) -> np.ndarray:
        return np.array(self.spectrum, dtype=float)

    @property
    def lipschitz(self) -> float:
        """L = max h"""
        return max(self.spectrum)

    def objective(self, x: np.ndarray) -> np.ndarray:
        return 0.5 * np.sum(np.array(self.spectrum) * x**2, axis=-1)

    def draws(self, rng: np.random.Generator, first: int, count: int, batch: int) -> np.ndarray:
        shape = np.array(self.spectrum) if self.curved else np.ones(self.d)
        scale = self.sigma * np.sqrt(shape / (shape.sum() * batch))
        return rng.standard_normal((count, self.d)) * scale


@dataclass(frozen=True)
class _TwoValues:
    """One variable, and u = high with probability p, else low."""

    d: ClassVar[int] = 1
    high: ClassVar[float]
    low: ClassVar[float]
    p: ClassVar[float]

    @property
    def mean(self) -> float:
        """p high + (1 - p) low"""
        return self.p * self.high + (1 - self.p) * self.low

    @property
    def parameters(self) -> np.ndarray:
        return np.zeros(2)

    def draws(self, rng: np.random.Generator, first: int, count: int, batch: int) -> np.ndarray:
        share = (rng.random(count) < self.p) if batch == 1 else rng.binomial(batch, self.p, count) / batch
        return (self.low + (self.high - self.low) * share)[:, None]


@dataclass(frozen=True)
class Counterexample(_TwoValues):
    """Equation (10) (Chen et al. 2022, p. 18): f(x) = E[u x^2] = x^2/22, u = 5.5 with probability 1/11, else -0.5.

    The paper gives no x_1; 1 here.

    Args:
        huber: gradients 11 x and -x inside [-1, 1], +-11 and -+1 outside: bounded, so that (A4) holds.
    """

    high: ClassVar[float] = 5.5
    low: ClassVar[float] = -0.5
    p: ClassVar[float] = 1 / 11
    box: ClassVar[tuple[float, float]] = EVERYWHERE
    huber: bool = False
    start: float = 1.0

    @property
    def law(self) -> int:
        """By `huber`."""
        return CLIPPED_SQUARE if self.huber else SQUARE

    def objective(self, x: np.ndarray) -> np.ndarray:
        size = np.abs(x[..., 0])
        return self.mean * np.where(self.huber & (size > 1), 2 * size - 1, size**2)


@dataclass(frozen=True)
class Reddi(_TwoValues):
    """f(x) = E[u x] = 0.2 x on [-1, 1], u = 1010 with probability 0.01, else -10 (Reddi et al. 2018, section 3).

    The optimum is -1, and Adam with beta .9, theta .99 goes to +1.
    """

    law: ClassVar[int] = LINEAR
    high: ClassVar[float] = 1010.0
    low: ClassVar[float] = -10.0
    p: ClassVar[float] = 0.01
    box: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    start: float = 0.0

    def objective(self, x: np.ndarray) -> np.ndarray:
        return self.mean * x[..., 0]


@dataclass(frozen=True)
class ReddiCycle:
    """f_t(x) = C x for t = 1, 4, 7, ..., else -x, on [-1, 1] (Reddi et al. 2018, theorem 1).

    The mean over a cycle is (C - 2) x / 3, with its optimum -1; Adam with beta 0, theta 1/(1 + C^2) goes to +1.
    Nothing in it is random: a batch is `batch` equal samples.
    """

    law: ClassVar[int] = LINEAR
    d: ClassVar[int] = 1
    box: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    c: float = 4.0
    start: float = 0.0

    @property
    def mean(self) -> float:
        """(C - 2) / 3"""
        return (self.c - 2.0) / 3.0

    @property
    def parameters(self) -> np.ndarray:
        return np.zeros(2)

    def objective(self, x: np.ndarray) -> np.ndarray:
        return self.mean * x[..., 0]

    def draws(self, rng: np.random.Generator, first: int, count: int, batch: int) -> np.ndarray:
        return np.where(np.arange(first, first + count) % 3 == 1, self.c, -1.0)[:, None]
