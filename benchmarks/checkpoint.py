"""What does a checkpoint cost the step that it follows, and a heartbeat every step?

    python benchmarks/checkpoint.py [--rounds 20] [--steps 12] [--folder DIR]

Trains ResNet-18 with generic Adam on made-up images of 32 x 32, one rank. Every few steps it saves its whole state as
the training loop does: a copy, which is the step's stall, and a file beside the next steps. Then, with nothing being
written, plain torch.save of the same state, and the same with an fsync, as the file has it. The heartbeat: what its
calls cost in one step, and one write of its file, which a thread makes every few seconds, beside a step of LeNet.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional

from hvd_adam import GenericAdam
from hvd_adam.bench.ratios import median
from hvd_adam.bench.workloads import WORKLOADS
from hvd_adam.config import from_plain
from hvd_adam.training.checkpoint_writer import CheckpointWriter
from hvd_adam.training.heartbeat import INTERVAL, Heartbeat
from hvd_adam.training.preparation import optimizer_state


class Training:
    """A model that takes steps on one batch."""

    def __init__(self, name: str, batch: int | None = None) -> None:
        torch.manual_seed(1)
        workload = WORKLOADS[name]
        self.model = workload.build()
        self.adam = GenericAdam(self.model.parameters())
        self.inputs, self.labels = workload.batch(batch or workload.samples)

    def step(self) -> float:
        """One; its seconds."""
        started = time.perf_counter()
        functional.cross_entropy(self.model(self.inputs), self.labels).backward()
        self.adam.step()
        self.adam.zero_grad()
        return time.perf_counter() - started

    def state(self) -> dict[str, Any]:
        """As the training loop saves it."""
        parts: Any = SimpleNamespace(model=self.model, adam=self.adam)
        return {"model": self.model.state_dict(), "optimizer": optimizer_state(parts)}


def seconds(action: Callable[[], Any]) -> float:
    """Of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def plainly(state: dict[str, Any], path: Path, sync: bool) -> None:
    """torch.save, and nothing else; or with the wait for the disk."""
    with path.open("wb") as file:
        torch.save(state, file)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def checkpoints(folder: Path, rounds: int, steps: int) -> dict[str, list[float]]:
    """The seconds of each kind."""
    training = Training("resnet18", 2)
    config = from_plain({"task": {"name": "digits"}, "algorithm": {"name": "adam"}, "steps": 1})
    writer = CheckpointWriter(folder / "checkpoints", config)
    found: dict[str, list[float]] = {}

    def note(kind: str, *values: float) -> None:
        found.setdefault(kind, []).extend(values)

    for _ in range(steps):
        training.step()
    for k in range(1, rounds + 1):
        note("a step, nothing written", *(training.step() for _ in range(steps)))
        state = training.state()
        note("stall of a checkpoint", writer.save(k, state))
        beside = time.perf_counter()
        while any(thread.name == "checkpoint" for thread in threading.enumerate()):
            note("a step beside the write", training.step())
        note("the write, beside training", time.perf_counter() - beside)
        writer.finish()
        note("plain torch.save", seconds(lambda now=state: plainly(now, folder / "plain", False)))
        note("torch.save and fsync", seconds(lambda now=state: plainly(now, folder / "plain", True)))
    return found


def heartbeats(folder: Path, rounds: int) -> dict[str, list[float]]:
    """The seconds of a step's calls, of a write of the file, and of a step of LeNet."""
    heart = Heartbeat(folder, 0, "here", 300.0)
    calls = 10_000

    def a_step() -> None:
        for _ in range(calls):
            heart.step += 1
            heart.alive()
            for phase in ("data", "forward", "backward", "data", "wait"):
                heart.at(phase)

    training = Training("lenet")
    for _ in range(20):
        training.step()
    found: dict[str, list[float]] = {"heartbeat: calls of a step": [], "heartbeat: a write": [], "a step of LeNet": []}
    for _ in range(rounds):
        found["heartbeat: calls of a step"].append(seconds(a_step) / calls)
        found["heartbeat: a write"].append(seconds(heart._write))
        found["a step of LeNet"].extend(training.step() for _ in range(20))
    heart.stop("done")
    return found


def line(name: str, values: list[float]) -> str:
    """Median with its interval, and the largest, in milliseconds."""
    found = median([1e3 * value for value in values])
    interval = f"({found.low:.4g} to {found.high:.4g})"
    return f"{name:28} {found.value:10.4g} ms {interval}, worst {1e3 * max(values):.4g}, n = {found.rounds}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--folder", type=Path, default=Path())
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        found = checkpoints(folder, chosen.rounds, chosen.steps)
        print(f"a checkpoint has {sorted((folder / 'checkpoints').iterdir())[0].stat().st_size / 1e6:.1f} MB")
        found.update(heartbeats(folder, chosen.rounds))
    for kind, values in found.items():
        print(line(kind, values))
    calls, write, step = (found[k] for k in ("heartbeat: calls of a step", "heartbeat: a write", "a step of LeNet"))
    each, file, lenet = (median(values).value for values in (calls, write, step))
    cost = each + file * lenet / INTERVAL
    print(f"a heartbeat costs {1e6 * cost:.3g} us a step of LeNet, {100 * cost / lenet:.3g} % of it")


if __name__ == "__main__":
    main()
