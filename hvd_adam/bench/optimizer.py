"""GenericAdam's step beside torch's Adam, in one process, the optimizers taking turns in random order."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from hvd_adam.bench.ratios import Ratio, median, ratio
from hvd_adam.bench.workloads import DTYPES, WORKLOADS, numbers, shapes_of
from hvd_adam.optim.generic_adam import GenericAdam

TURN = 0.1  # seconds of a turn, about
FUSED = "torch fused"
Tensors = list[torch.Tensor]

PEERS: dict[str, Callable[[Tensors], torch.optim.Optimizer]] = {
    FUSED: lambda p: torch.optim.Adam(p, fused=True),
    "torch foreach": lambda p: torch.optim.Adam(p, foreach=True),
    "torch for-loop": lambda p: torch.optim.Adam(p, foreach=False, fused=False),
    "torch default": lambda p: torch.optim.Adam(p),
    "GenericAdam": lambda p: GenericAdam(p),
    "GenericAdam, scheduled": lambda p: GenericAdam(
        p, "0.001/sqrt(t)", (0.9, "1 - 0.9/t"), bias_correction=False, eps_in="v0", v0=1e-8
    ),
}
LISTS = (*WORKLOADS, "1e4", "1e6", "1e8", "1000x10")


def needed_memory(name: str, dtype: str) -> int:
    """Bytes of all optimizers: each has parameters, gradients and two moments of its own."""
    return numbers(name) * DTYPES[dtype].itemsize * 4 * len(PEERS)


@dataclass
class Timings:
    """Seconds of a step of each optimizer, a value a round, on the parameters of that name."""

    name: str
    dtype: str
    threads: int
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def ratio(self, peer: str, to: str = FUSED) -> Ratio:
        """One optimizer's time to another's, round by round."""
        return ratio(self.seconds[peer], self.seconds[to])

    def to_plain(self) -> dict[str, Any]:
        """JSON's kinds only."""
        return {"parameters": self.name, "dtype": self.dtype, "threads": self.threads, "seconds": self.seconds}


def measure(name: str, rounds: int, threads: int, dtype: str = "float32", seed: int = 0) -> Timings:
    """Times the optimizers on parameters of one name, each on memory of its own, which is taken anew for every round.

    A step differs with the memory that it gets: an interval has to cover that, too.

    Raises:
        ConfigError: an unknown name.
    """
    sizes = shapes_of(name)
    torch.set_num_threads(threads)
    found = Timings(name, dtype, threads, {peer: [] for peer in PEERS})
    order, generator = list(PEERS), random.Random(seed)
    for _ in range(rounds):
        generator.shuffle(order)
        optimizers = {peer: _make(PEERS[peer], sizes, DTYPES[dtype]) for peer in order}
        once = max(_seconds(optimizer, 1) for optimizer in optimizers.values() for _ in range(2))
        repeats = max(1, round(TURN / once))
        generator.shuffle(order)
        for peer in order:
            found.seconds[peer].append(_seconds(optimizers[peer], repeats))
        del optimizers
        gc.collect()
    return found


def _make(
    build: Callable[[Tensors], torch.optim.Optimizer], sizes: Sequence[tuple[int, ...]], dtype: torch.dtype
) -> torch.optim.Optimizer:
    parameters = [torch.zeros(size, dtype=dtype, requires_grad=True) for size in sizes]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    return build(parameters)


def _seconds(optimizer: torch.optim.Optimizer, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        optimizer.step()
    return (time.perf_counter() - started) / repeats


def table(found: Sequence[Timings]) -> Any:
    """A rich table: each optimizer's step to torch's fused Adam, and the median milliseconds of that."""
    from rich.table import Table

    shown = Table(title=f"An optimizer's step / {FUSED}", title_justify="left", box=None)
    shown.add_column("parameters")
    for peer in PEERS:
        shown.add_column(f"{peer}, ms" if peer == FUSED else peer, justify="right")
    for one in found:
        cells = [
            f"{1e3 * median(one.seconds[peer]).value:.3g}" if peer == FUSED else str(one.ratio(peer)) for peer in PEERS
        ]
        shown.add_row(f"{one.name}, {one.dtype}", *cells)
    return shown
