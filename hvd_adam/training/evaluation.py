"""Measures on the test data, and on some of the training data: unpadded shards, dealt to workers, sums reduced."""

from __future__ import annotations

import time
from functools import lru_cache, partial
from typing import Callable

import numpy as np
import torch
from torch import Tensor

from hvd_adam.comm.protocol import World
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.optim.averaging import DistributedOptimizer
from hvd_adam.tasks.registry import Task
from hvd_adam.terminal import GRACE

TAKEN = ("kind", "step", "samples", "seconds")  # what a line of the trace says beside the measures


def moved(batch: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
    """The batch on this device; itself where it lies there."""
    return tuple(part.to(device, non_blocking=True) for part in batch)


class _Stopped(Exception):
    """Some rank was asked to stop."""


class FailedElsewhere(RunError):
    """The evaluation failed on another rank: exit code 1."""


def evaluate(
    task: Task,
    model: torch.nn.Module,
    optimizer: DistributedOptimizer,
    chunk: int = 250,
    train: int | None = None,
    asked: Callable[[], bool] = lambda: False,
    test: int | None = None,
    failing: Callable[[], None] = lambda: None,
) -> dict[str, float] | None:
    """The mean of each of the task's measures over the test samples; the same on every rank.

    The whole model is in eval mode meanwhile; afterwards each module is in the mode that it was in before.

    Args:
        chunk: samples evaluated at once: fixed, so that the sums do not depend on who makes them.
        train: also "train_loss", over so many training samples: the same ones, seen alike, each time.
        asked: whether this rank was asked to stop. All ranks learn of it in each round of one chunk a worker, so that
            no long evaluation keeps a run from saving itself in time; then the answer is None, on every rank.
        test: only the first so many test samples; None: all of them.
        failing: called on all ranks, together, before they raise.

    Raises:
        ConfigError: a measure has a name that the trace needs, or there is no "loss" to measure on `train` samples.
        FailedElsewhere: the task failed on another rank. What it raises here is raised here; all ranks raise together.
    """

    def measured(part: np.ndarray, on_training: bool = False) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(int(part[0]))
        return task.measures(model, moved(task.batch(part, generator, train=on_training), device))

    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            found = _means(measured, np.arange(test or task.test_size), chunk, optimizer, asked, failing)
            _check_names(found, train, failing)
            if train:
                chosen = _fixed_share(task.train_size, train).copy()
                on_training = partial(measured, on_training=True)
                found["train_loss"] = _means(on_training, chosen, chunk, optimizer, asked, failing)["loss"]
    except _Stopped:
        return None
    finally:
        for module, mode in modes:  # what lies inside a module comes after it, so its own mode stays
            module.train(mode)
    if "accuracy" in found:
        found["error"] = 1.0 - found["accuracy"]
    return found


def _check_names(found: dict[str, float], train: int | None, failing: Callable[[], None]) -> None:
    taken = [name for name in TAKEN if name in found]
    lacking = bool(train) and "loss" not in found
    if taken or lacking:
        failing()
    if taken:
        raise ConfigError(
            f"a measure of the task's own called {taken[0]}",
            f"a line of the trace has {', '.join(TAKEN)} beside the measures",
            "give it another name",
        )
    if lacking:
        raise ConfigError(
            f"evaluate.train: {train}",
            f"it measures the task's loss, and the task's measures are {', '.join(found) or 'none'}",
            'add "loss" to what its measures() gives, or start a new run without evaluate.train',
        )


def _means(
    measured: Callable[[np.ndarray], dict[str, Tensor]],
    chosen: np.ndarray,
    chunk: int,
    optimizer: DistributedOptimizer,
    asked: Callable[[], bool],
    failing: Callable[[], None],
) -> dict[str, float]:
    parts = [chosen[i : i + chunk] for i in range(0, len(chosen), chunk)]
    names: list[str] = []
    sums: list[list[float]] = []
    total = torch.zeros((), dtype=torch.float64)
    for first in range(0, len(parts), optimizer.worker_count):
        dealt = parts[first : first + optimizer.worker_count]
        of = {i * optimizer.worker_count // len(dealt): part for i, part in enumerate(dealt)}  # few: spread over ranks
        fault: Exception | None = None
        try:
            found = [(_plain(measured(of[w])), len(of[w])) if w in of else ({}, 0) for w in optimizer.workers_here]
            some = next((one for one, size in found if size), None)
            names = names or sorted(some or _plain(measured(parts[0][:1])))  # a rank may have nothing to measure
            sums = [[*(one[name] if one else 0.0 for name in names), size] for one, size in found]
        except Exception as error:  # a task of one's own; told before it is raised, or the other ranks would wait
            fault = error
        stop, failed = _told(optimizer.world, asked(), fault is not None)
        if failed:
            failing()
            raise _of_all(optimizer.world, fault)
        if stop:
            raise _Stopped
        total = total + optimizer.reduce_over_workers([torch.tensor(one, dtype=torch.float64) for one in sums])
    *means, count = total.tolist()
    return {name: value / count for name, value in zip(names, means, strict=True)}


def _of_all(world: World, fault: Exception | None) -> Exception:
    """This rank's own fault; where it has none, that of the first rank that has."""
    told = world.allgather_bytes(b"" if fault is None else f"{type(fault).__name__}: {fault}".encode(errors="replace"))
    if fault is not None:
        return fault
    rank, words = next((rank, words.decode()) for rank, words in enumerate(told) if words)
    time.sleep(GRACE)
    return FailedElsewhere(
        f"the evaluation failed on rank {rank}: {words}",
        "every rank measures its share, and the mean is over all of them",
        "correct what it names, and add --resume",
    )


def _plain(sums: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in sums.items()}


def _told(world: World, *flags: bool) -> list[bool]:
    """Whether any rank says so, of each flag."""
    counts = torch.tensor(flags, dtype=torch.float64)
    world.wait(world.start_allreduce(counts, "hvd_adam.told"))
    return [count > 0 for count in counts.tolist()]


@lru_cache(maxsize=2)
def _fixed_share(size: int, wanted: int) -> np.ndarray:
    """Training samples to measure on: spread evenly; of an endless stream the first ones."""
    return np.arange(wanted) if size == 0 else np.unique(np.linspace(0, size - 1, min(wanted, size)).astype(np.int64))


def running_mean(values: list[tuple[int, float]]) -> float:
    """Mean over the points that T steps start from, (1/T) sum_{t <= T} ||grad f(x_t)||, as Theorem 17 bounds it.

    An evaluation at step t sees x_{t+1}. Between evaluations the value is taken to go in a straight line.

    Args:
        values: (step, value), steps increasing, T the last; before the first one the value is taken as constant.

    >>> running_mean([(0, 4.0), (2, 2.0), (6, 2.0)])  # 4, 3, 2, 2, 2, 2
    2.5
    """
    (first, start), *later = values
    total, before = start * first, (first, start)
    for step, value in later:
        total += (step - before[0]) * (value + before[1]) / 2
        before = (step, value)
    steps, end = before
    # the trapezoid counts half of both ends, the sum all of the first and none of the last
    return (total + (start - end) / 2) / steps if steps else start
