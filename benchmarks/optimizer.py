"""GenericAdam's step against torch's Adam, interleaved in random order in one process.

python benchmarks/optimizer.py [--rounds 25] [--threads 1]

Prints, for each shape list, the median seconds of each optimizer and the ratio to torch's fused Adam:
the median over rounds, with a 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from typing import Callable

import torch
from torchvision.models import resnet18

from hvd_adam import GenericAdam

LENET = [(20, 1, 5, 5), (20,), (50, 20, 5, 5), (50,), (500, 800), (500,), (10, 500), (10,)]


def shapes(name: str) -> list[tuple[int, ...]]:
    if name == "ResNet-18":
        return [tuple(p.shape) for p in resnet18(num_classes=10).parameters()]
    return {"LeNet": LENET, "1,000 tiny tensors": [(10,)] * 1000, "100 M": [(1000, 1000)] * 100}[name]


def make(name: str, optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer]) -> torch.optim.Optimizer:
    parameters = [torch.zeros(shape, requires_grad=True) for shape in shapes(name)]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    return optimizer(parameters)


PEERS: dict[str, Callable[[list[torch.Tensor]], torch.optim.Optimizer]] = {
    "torch fused": lambda p: torch.optim.Adam(p, fused=True),
    "torch foreach": lambda p: torch.optim.Adam(p, foreach=True),
    "GenericAdam": lambda p: GenericAdam(p),
    "GenericAdam, scheduled": lambda p: GenericAdam(
        p, "0.001/sqrt(t)", (0.9, "1 - 0.9/t"), bias_correction=False, eps_in="v0", v0=1e-8
    ),
}


def seconds(optimizer: torch.optim.Optimizer, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        optimizer.step()
    return (time.perf_counter() - started) / repeats


def interval(values: list[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    generator = random.Random(0)
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(2000))
    return medians[50], medians[1949]


def measure(name: str, rounds: int) -> dict[str, object]:
    optimizers = {peer: make(name, build) for peer, build in PEERS.items()}
    repeats = 1 if name == "100 M" else 20
    times: dict[str, list[float]] = {peer: [] for peer in optimizers}
    order = list(optimizers)
    for _ in range(rounds + 2):
        random.shuffle(order)
        for peer in order:
            times[peer].append(seconds(optimizers[peer], repeats))
    kept = {peer: values[2:] for peer, values in times.items()}
    ratios = {peer: [a / b for a, b in zip(values, kept["torch fused"], strict=True)] for peer, values in kept.items()}
    return {
        "model": name,
        "rounds": rounds,
        "median_seconds": {peer: statistics.median(values) for peer, values in kept.items()},
        "ratio": {peer: [statistics.median(values), *interval(values)] for peer, values in ratios.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    random.seed(0)
    for name in ("LeNet", "ResNet-18", "1,000 tiny tensors", "100 M"):
        sys.stdout.write(json.dumps(measure(name, options.rounds if name != "100 M" else 9)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
