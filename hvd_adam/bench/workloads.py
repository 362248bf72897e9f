"""What is timed: models with the batch of one rank, and lists of parameters without a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvd_adam.bench.names import known
from hvd_adam.errors import ConfigError
from hvd_adam.tasks import models

MILLION = 10**6
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


DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
WORKLOADS = {
    "lenet": Workload(lambda: models.lenet(10), _images(1, 28), 32),
    "resnet18": Workload(lambda: models.named_classifier("resnet18", 10, small_images=False), _images(3, 32), 8),
    "transformer": Workload(Transformer, _tokens, 4),
}


class Synthetic(nn.Module):
    """Parameters without work: two scores that use each of them once, and a gradient that fills its memory once."""

    def __init__(self, shapes: list[tuple[int, ...]]) -> None:
        super().__init__()
        self.parts = nn.ParameterList(torch.zeros(shape) for shape in shapes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores (batch, 2) of inputs (batch, 1)."""
        total = torch.stack([part.sum() for part in self.parts]).sum()
        return inputs * torch.stack([total, -total])


def synthetic(name: str) -> list[tuple[int, ...]] | None:
    """The shapes of "1e8", numbers in pieces of a million at most, or of "1000x10", tensors x size; None of others.

    Raises:
        ConfigError: more than a million tensors.
    """
    many, _, each = name.partition("x")
    try:
        if each:
            right = many.isdecimal() and each.isdecimal()
            tensors, size, rest = (int(many), int(each), 0) if right else (0, 0, 0)
        else:
            (tensors, rest), size = divmod(int(float(name)), MILLION), MILLION
    except (ValueError, OverflowError):
        return None
    if tensors > MILLION:
        raise ConfigError(
            f"parameters: {name}",
            "more than a million tensors are not made here",
            "write 1e12 or less, or fewer of them",
        )
    pieces: list[tuple[int, ...]] = [(size,)] * tensors
    return [*pieces, *([(rest,)] if rest else [])] if tensors * size + rest > 0 else None


def workload(name: str) -> Workload:
    """A model by its name, or parameters without one.

    Raises:
        ConfigError: neither.
    """
    shapes = None if name in WORKLOADS else synthetic(name)
    if shapes:
        return Workload(lambda: Synthetic(shapes), lambda n: (torch.ones(n, 1), torch.zeros(n, dtype=torch.long)), 1)
    return known("model", name, WORKLOADS)


def loaded(load: Workload, samples: int | None, dtype: torch.dtype) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """The model in that precision, and a batch that fits it."""
    inputs, labels = load.batch(samples or load.samples)
    return load.build().to(dtype), (inputs.to(dtype) if inputs.is_floating_point() else inputs, labels)


def shapes_of(name: str) -> list[tuple[int, ...]]:
    """The parameters' shapes of a model, or of parameters without one.

    Raises:
        ConfigError: neither.
    """
    shapes = synthetic(name) or (
        [tuple(p.shape) for p in WORKLOADS[name].build().parameters()] if name in WORKLOADS else []
    )
    if not shapes:
        raise ConfigError(
            f"parameters: {name}",
            "they are a model's, a number such as 1e8, or tensors x size such as 1000x10",
            f"choose from {', '.join(WORKLOADS)}, or write one",
        )
    return shapes


@cache
def numbers(name: str) -> int:
    """How many numbers the parameters are, by the name that `shapes_of` takes."""
    return sum(math.prod(shape) for shape in shapes_of(name))


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The mean cross-entropy of a batch."""
    return functional.cross_entropy(model(batch[0]), batch[1])
