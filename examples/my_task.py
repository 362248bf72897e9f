"""A task of one's own: two half-moons, told apart by a small network.

hvd-adam train configs/digits.yaml task=examples.my_task:TwoMoons
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class TwoMoons:
    """Points in the plane on two interleaved half-circles.

    Args:
        hidden: units of the network's hidden layer.
        noise: standard deviation that is added to each point.
    """

    name = "two-moons"
    target = "accuracy"
    train_size, test_size = 2000, 500

    def __init__(self, hidden: int = 32, noise: float = 0.1) -> None:
        self.hidden, self.noise = hidden, noise

    def prepare(self, root: Path) -> None:
        """Makes the points, the same ones in every process; a task with files reads them under `root`."""
        draws = np.random.default_rng(0)
        angle = draws.uniform(0, np.pi, self.train_size + self.test_size)
        label = draws.integers(0, 2, len(angle))
        moon = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        points = np.where(label[:, None] == 0, moon, np.array([1.0, 0.5]) - moon)
        self.points = torch.from_numpy(points + self.noise * draws.standard_normal(points.shape)).float()
        self.labels = torch.from_numpy(label)

    def model(self) -> nn.Module:
        """A network with new weights."""
        return nn.Sequential(nn.Linear(2, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 2))

    def batch(self, indices: np.ndarray, generator: torch.Generator, train: bool) -> tuple[Tensor, ...]:
        """Test points lie behind the training points."""
        chosen = torch.tensor(indices) + (0 if train else self.train_size)
        return self.points[chosen], self.labels[chosen]

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Mean over the batch."""
        points, labels = batch
        return functional.cross_entropy(model(points.to(next(model.parameters()))), labels)

    def measures(self, model: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Sums over the batch."""
        points, labels = batch
        scores = model(points.to(next(model.parameters())))
        return {
            "loss": functional.cross_entropy(scores, labels, reduction="sum"),
            "accuracy": (scores.argmax(1) == labels).sum(),
        }
