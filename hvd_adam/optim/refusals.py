"""What cannot be done to averaged gradients, said before a rank waits for another."""

from __future__ import annotations

from collections.abc import Container
from typing import NoReturn

import torch

from hvd_adam.errors import ConfigError, RunError


def refuse_newcomers(optimizer: torch.optim.Optimizer, known: Container[int]) -> None:
    """Raises RunError where a parameter was added, or unfrozen, since the optimizer was wrapped.

    Args:
        known: ids of the parameters whose gradients are averaged.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad and id(parameter) not in known:
                raise RunError(
                    f"a parameter of shape {tuple(parameter.shape)} that was added or unfrozen after the wrapping",
                    "its gradient is not averaged, and each rank would step by its own",
                    "wrap the optimizer again: hvd_adam.DistributedOptimizer(optimizer, world, ...)",
                )


def refuse_sparse(parameter: torch.Tensor) -> NoReturn:
    """Raises ConfigError."""
    raise ConfigError(
        f"a sparse gradient of shape {tuple(parameter.shape)}",
        "buckets are dense: a sparse gradient has no place of its own in them",
        "embed with sparse=False",
    )


def refuse_closure() -> NoReturn:
    """Raises ConfigError."""
    raise ConfigError(
        "step(closure)",
        "the gradients were averaged while backward ran, and a closure would make others",
        "call backward first, then step()",
    )


def refuse_scaler_around() -> NoReturn:
    """Raises ConfigError."""
    raise ConfigError(
        "scaler.step(optimizer) around an averaged optimizer",
        "each rank would decide from its own gradients whether to step, and the others would wait",
        "hand it in: hvd_adam.DistributedOptimizer(..., scaler=scaler), then optimizer.step()",
    )
