"""Problems of one variable on which Adam with a constant theta goes wrong: the paper's, and those of Reddi et al."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from hvd_adam.tasks.models import like_model
from hvd_adam.tasks.registry import check_flag, check_range
from hvd_adam.tasks.synthetic import Point, Synthetic, uniform_draws
from hvd_adam.theory import problems


class OneVariable(Synthetic):
    """f(x) = E[u] h(x) of one variable; a sample i sees u_i h(x), with u_i a function of the index alone.

    Test batches have u = E[u]. A subclass gives h, its derivative and the values of u.
    """

    box = problems.EVERYWHERE

    def __init__(self, mean: float, start: float) -> None:
        super().__init__(1, start)
        self.mean = mean

    def values(self, indices: np.ndarray) -> np.ndarray:
        """u of each index: shape (b, 1)."""
        raise NotImplementedError

    def shape(self, x: Tensor) -> Tensor:
        """h(x), elementwise."""
        raise NotImplementedError

    def slope(self, x: Tensor) -> Tensor:
        """h'(x), elementwise."""
        raise NotImplementedError

    def objective(self, x: Tensor) -> Tensor:
        """E[u] h(x)"""
        return self.mean * self.shape(x).sum()

    def gradient(self, x: Tensor) -> Tensor:
        """E[u] h'(x)"""
        return self.mean * self.slope(x)

    def batch(self, indices: np.ndarray, generator: torch.Generator, train: bool) -> tuple[Tensor, ...]:
        """u of each draw: float64, shape (b, 1); E[u] where `train` is false."""
        if not train:
            return (torch.full((len(indices), 1), self.mean, dtype=torch.float64),)
        return (torch.from_numpy(self.values(np.asarray(indices))),)

    def model(self) -> nn.Module:
        """The point x, which stays in the box."""
        return BoxedPoint(self)

    def measures(self, model: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Sums over the batch: "loss"; exact "objective" and "gradient_norm"; the point itself, "x"."""
        loss = model(like_model(model, batch[0])).sum()  # moves x into its box
        x = next(model.parameters()).detach()
        found = {"objective": self.objective(x), "gradient_norm": self.gradient(x).abs().sum(), "x": x.sum()}
        return {"loss": loss, **{name: value * len(batch[0]) for name, value in found.items()}}


class BoxedPoint(Point):
    """x, projected to the box of its problem before each use: so an optimizer's step is a projected step."""

    def __init__(self, problem: OneVariable) -> None:
        super().__init__(problem)
        self._box, self._shape = problem.box, problem.shape

    def forward(self, draws: Tensor) -> Tensor:
        """u h(x) for each u of `draws`, shape (b, 1): shape (b,)."""
        with torch.no_grad():
            self.x.clamp_(*self._box)
        return draws @ self._shape(self.x)


class _Square(torch.autograd.Function):
    """x^2 inside [-1, 1], 2 |x| - 1 outside, with the derivative 2 clip(x)."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        ctx.save_for_backward(x)
        return torch.where(x.abs() <= 1, x.square(), 2 * x.abs() - 1)

    @staticmethod
    def backward(ctx, above: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        return above * 2 * ctx.saved_tensors[0].clamp(-1, 1)


class Counterexample(OneVariable):
    """Equation (10) (Chen et al. 2022, p. 18): f(x) = E[u x^2] = x^2 / 22, u = 5.5 with probability 1/11, else -0.5.

    Args:
        huber: gradients 11 x and -x inside [-1, 1], +-11 and -+1 outside, so that assumption A4 holds.
        start: x_1, which the paper does not give.
    """

    name = "counterexample"

    def __init__(self, huber: bool = False, start: float = 1.0) -> None:
        check_flag("huber", huber)
        self.law = problems.Counterexample(huber, float(start) if isinstance(start, int) else start)
        super().__init__(self.law.mean, start)
        self.constants = {"L": 2 * self.law.mean, "f_star": 0.0, "d": 1.0}
        if huber:
            self.constants["G"] = float(np.sqrt(121 / 11 + 10 / 11))

    def values(self, indices: np.ndarray) -> np.ndarray:
        """5.5 or -0.5"""
        return np.where(uniform_draws(indices, 1) < self.law.p, self.law.high, self.law.low)

    def shape(self, x: Tensor) -> Tensor:
        """x^2, or its Huberised form."""
        return _Square.apply(x) if self.law.huber else x.square()  # type: ignore[no-untyped-call]

    def slope(self, x: Tensor) -> Tensor:
        """2 x, or 2 clip(x)."""
        return 2 * (x.clamp(-1, 1) if self.law.huber else x)


class Reddi(OneVariable):
    """f(x) = E[u x] = 0.2 x on [-1, 1], u = 1010 with probability 0.01, else -10 (Reddi et al. 2018, section 3).

    The optimum is -1. Args: start: x_1 in [-1, 1].
    """

    name = "reddi"

    def __init__(self, start: float = 0.0) -> None:
        check_range("start", start, -1, 1)
        self.law = problems.Reddi(start)
        self.box = self.law.box
        super().__init__(self.law.mean, start)
        self.constants = {"L": 0.0, "f_star": -self.law.mean, "G": float(np.sqrt(0.01 * 1010**2 + 99)), "d": 1.0}

    def values(self, indices: np.ndarray) -> np.ndarray:
        """1010 or -10"""
        return np.where(uniform_draws(indices, 1) < self.law.p, self.law.high, self.law.low)

    def shape(self, x: Tensor) -> Tensor:
        """x"""
        return x

    def slope(self, x: Tensor) -> Tensor:
        """1"""
        return torch.ones_like(x)


class ReddiCycle(Reddi):
    """C x at every third draw, else -x, on [-1, 1] (Reddi et al. 2018, theorem 1). The optimum is -1.

    One worker with local_batch 1 meets the draws in the order of their theorem, up to where the cycle begins;
    more draws a step are averaged.

    Args:
        c: C > 2.
        start: x_1 in [-1, 1].
    """

    name = "reddi-cycle"

    def __init__(self, c: float = 4.0, start: float = 0.0) -> None:
        check_range("c", c, 2.0 + 1e-9)
        super().__init__(start)
        self.cycle = problems.ReddiCycle(float(c), start)
        self.mean = self.cycle.mean
        self.constants = {"L": 0.0, "f_star": -self.mean, "G": float(np.sqrt((c * c + 2) / 3)), "d": 1.0}

    def values(self, indices: np.ndarray) -> np.ndarray:
        """C, -1, -1, C, ..."""
        return np.where(indices % 3 == 1, self.cycle.c, -1.0)[:, None]
