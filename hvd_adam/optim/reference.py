"""Generic Adam written out slowly in numpy: what the fast optimizer is tested against.

Every line is one of the paper's (Chen et al. 2022, p. 4), or one of the conventions that torch adds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hvd_adam.schedules import as_schedule


@dataclass
class Reference:
    """One parameter's trajectory. Arguments as in GenericAdam; `x` is a float64 array, changed by `step`."""

    x: np.ndarray
    lr: Any = 1e-3
    betas: tuple[Any, Any] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    maximize: bool = False
    decoupled_weight_decay: bool = False
    bias_correction: bool = True
    eps_in: str = "denominator"
    v0: float = 0.0
    t: int = 0
    m: np.ndarray = field(init=False)
    v: np.ndarray = field(init=False)
    largest: np.ndarray = field(init=False)
    products: list[float] = field(default_factory=lambda: [1.0, 1.0])

    def __post_init__(self) -> None:
        self.m = np.zeros_like(self.x)
        self.v = np.full_like(self.x, self.v0)
        self.largest = self.v.copy()

    def step(self, gradient: np.ndarray | None) -> None:
        """One step; without a gradient only the clock moves."""
        self.t += 1
        if gradient is None:
            return
        alpha, beta, theta = (as_schedule(s)(self.t) for s in (self.lr, *self.betas))
        g = -gradient if self.maximize else gradient
        if self.weight_decay and self.decoupled_weight_decay:
            self.x = self.x - alpha * self.weight_decay * self.x
        elif self.weight_decay:
            g = g + self.weight_decay * self.x
        self.m = beta * self.m + (1 - beta) * g
        self.v = theta * self.v + (1 - theta) * g**2
        self.largest = np.maximum(self.largest, self.v)
        v = self.largest if self.amsgrad else self.v
        self.products = [self.products[0] * beta, self.products[1] * theta]
        m, scale = self.m, 1.0
        if self.bias_correction:
            m, scale = self.m / (1 - self.products[0]), 1 - self.products[1]
        denominator = np.sqrt(v / scale) + (self.eps if self.eps_in == "denominator" else 0.0)
        self.x = self.x - alpha * np.divide(m, denominator, out=np.zeros_like(m), where=denominator > 0)
