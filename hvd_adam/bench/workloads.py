"""What is timed: models with the batch of one rank, and lists of parameters without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvd_adam.tasks import models

VOCABULARY, WIDTH, DEPTH, HEADS, LENGTH = 8192, 320, 4, 5, 64  # the transformer: 10.2 million weights


@dataclass(frozen=True)
class Workload:
    """A model, and the batch that one rank takes a step on.

    Attributes:
        build: makes the model.
        batch: makes (inputs, labels) of so many samples.
        samples: of a rank, unless asked otherwise.
    """

    build: Callable[[], nn.Module]
    batch: Callable[[int], tuple[Tensor, Tensor]]
    samples: int


class Transformer(nn.Module):
    """A small encoder that names the next token at every place; its two ends have weights of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Parameter(torch.zeros(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, DEPTH, enable_nested_tensor=False)
        self.last = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores (batch, vocabulary, length) of tokens (batch, length)."""
        return self.last(self.body(self.tokens(tokens) + self.places)).transpose(1, 2)


def _images(channels: int, side: int) -> Callable[[int], tuple[Tensor, Tensor]]:
    return lambda samples: (torch.randn(samples, channels, side, side), torch.randint(10, (samples,)))


def _tokens(samples: int) -> tuple[Tensor, Tensor]:
    text = torch.randint(VOCABULARY, (samples, LENGTH + 1))
    return text[:, :-1].contiguous(), text[:, 1:].contiguous()


WORKLOADS = {
    "lenet": Workload(lambda: models.lenet(10), _images(1, 28), 32),
    "resnet18": Workload(lambda: models.named_classifier("resnet18", 10, small_images=True), _images(3, 32), 8),
    "transformer": Workload(Transformer, _tokens, 4),
}


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The mean cross-entropy of a batch."""
    return functional.cross_entropy(model(batch[0]), batch[1])
