"""What one worker sees at one step, the same whichever rank plays it and whatever it is used for."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Iterator

import torch

from hvd_adam.comm import World
from hvd_adam.config import RunConfig
from hvd_adam.randomness import seed_for
from hvd_adam.training.evaluation import moved
from hvd_adam.training.preparation import Parts


def batches(
    config: RunConfig, world: World, parts: Parts, step: int, worker: int
) -> Iterator[tuple[torch.Tensor, ...]]:
    """The batches of a worker at step t >= 1, on this rank's device: `local_batch` samples for each backward pass."""
    indices, size = parts.sampler.indices(step, worker), config.local_batch
    generator = torch.Generator().manual_seed(seed_for("augmentation", config.seed, step, worker))
    for start in range(0, len(indices), size):
        yield moved(parts.task.batch(indices[start : start + size], generator, train=True), world.device)


def autocast(config: RunConfig, world: World) -> Any:
    """The context of a forward pass in the config's precision."""
    return torch.autocast(world.device.type, torch.bfloat16) if config.precision == "bf16" else nullcontext()
