"""Measures on the test data: unpadded shards in fixed chunks, dealt to workers, sums reduced."""

from __future__ import annotations

import numpy as np
import torch

from hvd_adam.optim.averaging import DistributedOptimizer
from hvd_adam.tasks.registry import Task


def evaluate(task: Task, model: torch.nn.Module, optimizer: DistributedOptimizer, chunk: int = 250) -> dict[str, float]:
    """The mean of each of the task's measures over all test samples; the same on every rank.

    Args:
        chunk: samples evaluated at once: fixed, so that the sums do not depend on who makes them.
    """
    chunks = [np.arange(i, min(i + chunk, task.test_size)) for i in range(0, task.test_size, chunk)]
    generator = torch.Generator()
    model.eval()
    names: list[str] = []
    sums = []
    with torch.no_grad():
        probe = task.measures(model, task.batch(chunks[0][:1], generator, train=False))
        names = sorted(probe)
        for worker in optimizer.workers_here:
            total = torch.zeros(len(names) + 1, dtype=torch.float64)
            for part in chunks[worker :: optimizer.worker_count]:
                found = task.measures(model, task.batch(part, generator, train=False))
                total += torch.tensor([*(float(found[name]) for name in names), len(part)], dtype=torch.float64)
            sums.append(total)
    model.train()
    *means, count = optimizer.reduce_over_workers(sums).tolist()
    return {name: value / count for name, value in zip(names, means, strict=True)}
