"""Digits whose convnet notes what its ReLUs and poolings decide: where a rounding turns one, gradients jump.

$TEST_DECISIONS/RANK    an int64 for each sample of each training pass, in order: a hash of all that was decided on it
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hvd_adam.tasks.digits import Digits


class Watched(Digits):
    """The task `digits`; the same numbers."""

    def model(self) -> nn.Module:
        network = super().model()
        factors = torch.Generator().manual_seed(1)
        for module in network.modules():
            if isinstance(module, (nn.ReLU, nn.MaxPool2d)):
                module.register_forward_hook(_Hash(factors))
        network.register_forward_hook(_Notes(network))
        return network


class _Hash:
    """Sums random factors over the decisions of a layer, modulo 2^64."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator, self.factors, self.found = generator, torch.empty(0, dtype=torch.int64), torch.empty(0)

    def __call__(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if not torch.is_grad_enabled():
            return
        if isinstance(module, nn.ReLU):
            decided = (inputs[0] > 0).flatten(1).long()
        else:
            decided = functional.max_pool2d(inputs[0], 2, return_indices=True)[1].flatten(1)
        if not len(self.factors):
            self.factors = torch.randint(1, 2**62, decided.shape[1:], generator=self.generator)
        self.found = (decided * self.factors).sum(1)


class _Notes:
    """Adds what the layers of a pass have found to the rank's file."""

    def __init__(self, network: nn.Module) -> None:
        hooks = (hook for module in network.modules() for hook in module._forward_hooks.values())
        self.layers = [hook for hook in hooks if isinstance(hook, _Hash)]
        self.file = Path(os.environ["TEST_DECISIONS"], os.environ.get("OMPI_COMM_WORLD_RANK", "0"))

    def __call__(self, *_: object) -> None:
        if torch.is_grad_enabled():
            with self.file.open("ab") as file:
                file.write(torch.stack([layer.found for layer in self.layers]).sum(0).numpy().tobytes())


def decisions(folder: Path, steps: int) -> np.ndarray:
    """Hashes of shape (steps, samples of a step), whatever ranks, workers and passes they were made by."""
    ranks = sorted(folder.iterdir(), key=lambda path: int(path.name))
    return np.hstack([np.frombuffer(path.read_bytes(), dtype=np.int64).reshape(steps, -1) for path in ranks])
