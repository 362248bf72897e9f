"""Synthetic problems with known constants: an endless stream of noisy gradients of a known function."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hvd_adam.errors import ConfigError
from hvd_adam.tasks.models import like_model
from hvd_adam.tasks.registry import check_choice, check_integer, check_range


class Synthetic:
    """A function f of d variables, of which a sample i sees f(x) + xi_i . x.

    So its gradient is grad f(x) + xi_i, with xi_i normal, of mean 0 and total variance
    E||xi_i||^2 = sigma^2 (the trace of its covariance, as in assumption A5).
    xi_i is a function of the index i alone: one index is one draw, whoever asks for it. Test batches
    have no noise.

    A subclass gives `objective(x)` and `gradient(x)`, and fills `scale`, the standard deviation of each
    coordinate of xi, and `constants`.
    """

    name: str = ""
    target: str = "objective"
    train_size: int = 0
    test_size: int = 1
    scale: np.ndarray
    constants: dict[str, float]

    def __init__(self, d: int, start: float) -> None:
        check_integer("d", d, 1)
        check_range("start", start, -1e6, 1e6)
        self.d, self.start = d, float(start)

    def objective(self, x: Tensor) -> Tensor:
        """f(x), a scalar."""
        raise NotImplementedError

    def gradient(self, x: Tensor) -> Tensor:
        """grad f(x), of x's shape."""
        raise NotImplementedError

    def prepare(self, root: Path) -> None:
        """Nothing to load."""

    def model(self) -> nn.Module:
        """The point x, at (start, ..., start)."""
        return Point(self)

    def batch(self, indices: np.ndarray, generator: torch.Generator, train: bool) -> tuple[Tensor, ...]:
        """The noise xi of each draw: float64, shape (b, d); zeros where `train` is false."""
        if not train:
            return (torch.zeros(len(indices), self.d, dtype=torch.float64),)
        return (torch.from_numpy(normal_draws(indices, self.d) * self.scale),)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """f(x) + mean(xi) . x"""
        return model(like_model(model, batch[0])).mean()

    def measures(self, model: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Sums over the batch: noisy "loss"; exact "objective" and "gradient_norm" ||grad f(x)||."""
        x = next(model.parameters()).detach()
        count = len(batch[0])
        return {
            "loss": model(like_model(model, batch[0])).sum(),
            "objective": self.objective(x) * count,
            "gradient_norm": torch.linalg.vector_norm(self.gradient(x)) * count,
        }


class Point(nn.Module):
    """The variables of a synthetic problem as a module: noise (b, d) -> f(x) + noise . x, shape (b,)."""

    def __init__(self, problem: Synthetic) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.full((problem.d,), problem.start))
        self._objective = problem.objective

    def forward(self, noise: Tensor) -> Tensor:
        """f(x) + noise . x for each row of `noise`."""
        return self._objective(self.x) + noise @ self.x


class Toy(Synthetic):
    """A smooth non-convex function with its one minimum, 0, at 0.

        f(x) = sum_i x_i^2 + a sin(x_i)^2

    Non-convex for a > 1; gradient Lipschitz with L = 2 + 2 a. The noise is alike in all directions.

    Args:
        d: variables, >= 1.
        a: height of the waves, 0 <= a <= 4; beyond about 4.6 there are other stationary points.
        sigma: square root of the total variance of one sample's gradient, >= 0.
        start: every coordinate of x_1.
    """

    name = "toy"

    def __init__(self, d: int = 10, a: float = 3.0, sigma: float = 20.0, start: float = 3.0) -> None:
        super().__init__(d, start)
        check_range("a", a, 0, 4)
        check_range("sigma", sigma, 0)
        self.a, self.sigma = float(a), float(sigma)
        self.scale = np.full(d, self.sigma / np.sqrt(d))
        self.constants = {"L": 2 + 2 * self.a, "f_star": 0.0, "sigma": self.sigma, "d": float(d)}

    def objective(self, x: Tensor) -> Tensor:
        """sum x^2 + a sin^2 x"""
        return (x.square() + self.a * x.sin().square()).sum()

    def gradient(self, x: Tensor) -> Tensor:
        """2 x + a sin 2x"""
        return 2 * x + self.a * (2 * x).sin()


class PseudoHuber(Toy):
    """The toy with its parabola flattened far out, so that the gradient is bounded (assumption A4).

        f(x) = sum_i 2 delta^2 (sqrt(1 + (x_i / delta)^2) - 1) + a sin(x_i)^2

    Its one minimum is 0, at 0; L = 2 + 2 a as the toy's, and ||grad f||^2 <= d (2 delta + a)^2, so that
    E||g||^2 <= G^2 = d (2 delta + a)^2 + sigma^2.

    Args:
        d, a, sigma, start: the toy's.
        delta: where the parabola turns into a cone, > 0.

    Raises:
        ConfigError: also where a is so high for this delta that there are other stationary points.
    """

    name = "pseudo-huber"

    def __init__(
        self, d: int = 10, a: float = 3.0, delta: float = 5.0, sigma: float = 20.0, start: float = 3.0
    ) -> None:
        super().__init__(d, a, sigma, start)
        check_range("delta", delta, 1e-3, 1e6)
        self.delta = float(delta)
        # the slope of the envelope grows with x, so the first dip of sin 2x is the deepest against it
        dip = np.linspace(np.pi / 2, np.pi, 100_001)[1:-1]
        highest = float(np.min(2 * dip / np.sqrt(1 + (dip / self.delta) ** 2) / -np.sin(2 * dip)))
        if self.a >= highest:
            raise ConfigError(
                f"a: {a}, delta: {delta}",
                "the function has stationary points other than 0, and f* is no longer all there is to reach",
                f"lower a below {highest:.3g}, or raise delta",
            )
        self.constants["G"] = float(np.sqrt(d * (2 * self.delta + self.a) ** 2 + self.sigma**2))

    def objective(self, x: Tensor) -> Tensor:
        """sum 2 delta^2 (sqrt(1 + (x / delta)^2) - 1) + a sin^2 x"""
        # y / (sqrt(1 + y) + 1) is sqrt(1 + y) - 1 without its cancellation near 0
        y = (x / self.delta).square()
        return (2 * self.delta**2 * y / ((1 + y).sqrt() + 1) + self.a * x.sin().square()).sum()

    def gradient(self, x: Tensor) -> Tensor:
        """2 x / sqrt(1 + (x / delta)^2) + a sin 2x"""
        return 2 * x / (1 + (x / self.delta).square()).sqrt() + self.a * (2 * x).sin()


class Quadratic(Synthetic):
    """A noisy quadratic with chosen eigenvalues h and noise.

        f(x) = 1/2 sum_i h_i x_i^2,    Cov(xi) = diag(c),    sum_i c_i = sigma^2

    Args:
        d: variables, >= 1; where `spectrum` is a list, its length counts.
        spectrum: "geometric", h from 1 down to 1/condition by a constant factor; "power", h_i = 1/i; or a
            list of eigenvalues >= 0.
        condition: largest over smallest eigenvalue of the geometric spectrum, >= 1.
        noise: "isotropic", c_i all alike; "curvature", c_i proportional to h_i (Zhang et al. 2019,
            arXiv 1907.04164, section 3).
        sigma: square root of the total variance of one sample's gradient, >= 0.
        start: every coordinate of x_1.
    """

    name = "quadratic"

    def __init__(
        self,
        d: int = 100,
        spectrum: str | Sequence[float] = "geometric",
        condition: float = 100.0,
        noise: str = "isotropic",
        sigma: float = 1.0,
        start: float = 1.0,
    ) -> None:
        check_integer("d", d, 1)
        check_range("condition", condition, 1)
        check_choice("noise", noise, ("isotropic", "curvature"))
        check_range("sigma", sigma, 0)
        h = _eigenvalues(spectrum, d, condition)
        super().__init__(len(h), start)
        shape = np.ones(len(h)) if noise == "isotropic" else h
        self.sigma, self.eigenvalues = float(sigma), h
        self.scale = self.sigma * np.sqrt(shape / shape.sum())
        self.constants = {"L": float(h.max()), "f_star": 0.0, "sigma": self.sigma, "d": float(len(h))}

    def objective(self, x: Tensor) -> Tensor:
        """1/2 sum h x^2"""
        return 0.5 * (torch.as_tensor(self.eigenvalues).to(x) * x.square()).sum()

    def gradient(self, x: Tensor) -> Tensor:
        """h x"""
        return torch.as_tensor(self.eigenvalues).to(x) * x


def normal_draws(identities: np.ndarray, d: int) -> np.ndarray:
    """Standard normal numbers, shape (n, d), each row a function of its 64-bit identity alone.

    Box and Muller on `uniform_draws`.
    """
    half = (d + 1) // 2
    uniform = uniform_draws(identities, 2 * half)
    radius = np.sqrt(-2 * np.log(uniform[:, :half]))
    angle = 2 * np.pi * uniform[:, half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :d]


def uniform_draws(identities: np.ndarray, d: int) -> np.ndarray:
    """Uniform numbers inside (0, 1), shape (n, d), each row a function of its 64-bit identity alone.

    A counter hashed by splitmix64's finaliser (Steele et al. 2014): a row can be drawn anywhere, in any company,
    without a generator to carry around.
    """
    with np.errstate(over="ignore"):
        keys = _mixed(np.asarray(identities).astype(np.uint64) * _ODD + _GOLDEN)
        counters = np.arange(1, d + 1, dtype=np.uint64) * _GOLDEN
        bits = _mixed(_mixed(keys[:, None] + counters[None, :]) ^ keys[:, None])
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ODD = np.uint64(0xD1342543DE82EF95)


def _mixed(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _eigenvalues(spectrum: str | Sequence[float], d: int, condition: float) -> np.ndarray:
    if isinstance(spectrum, str):
        check_choice("spectrum", spectrum, ("geometric", "power"))
        if spectrum == "power":
            return 1.0 / np.arange(1, d + 1)
        return np.geomspace(1.0, 1.0 / condition, d)
    try:
        h = np.asarray(spectrum, dtype=float)
    except (TypeError, ValueError):
        h = np.empty(0)
    if h.ndim != 1 or not len(h) or not np.isfinite(h).all() or h.min() < 0 or h.max() == 0:
        raise ConfigError(
            f"spectrum: {spectrum}",
            "eigenvalues are finite numbers >= 0, not all of them 0",
            "give a list such as [1, 0.1, 0.01], or say geometric or power",
        )
    return h
