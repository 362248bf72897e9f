"""Many short training runs in one job: launchers/NAME -n RANKS -- python -m hvd_adam.reproduce.ranks ORDERS ANSWERS

ORDERS is a JSON list of resolved configs. Each is trained by the real loop on all ranks, and rank 0 appends one line to
ANSWERS: {"order": k, "mean_norm": ..., "seconds": ...}. Orders that have an answer are not made again.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np


def main(orders: str, answers: str) -> None:
    """Makes every order that has no answer yet."""
    from hvd_adam.comm import init
    from hvd_adam.config import from_plain
    from hvd_adam.optim.agreement import from_root
    from hvd_adam.training.loop import train

    world = init()
    file = Path(answers)
    done = from_root(world, lambda: set(answered(file)))
    for number, plain in enumerate(json.loads(Path(orders).read_text(encoding="utf-8"))):
        if number in done:
            continue
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run = from_root(world, partial(os.path.join, folder, "run"))
            train(from_plain(plain), run, resume=False, world=world)
            if world.rank == 0:
                line = {"order": number, "mean_norm": mean_norm(Path(run) / "trace.jsonl")}
                with file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps({**line, "seconds": round(time.perf_counter() - begun, 3)}) + "\n")
            world.barrier()
    world.close()


def answered(file: Path) -> dict[int, dict[str, Any]]:
    """The answers so far, by order."""
    if not file.exists():
        return {}
    text = file.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return {line["order"]: line for line in lines}


def evaluated_at(steps: int) -> list[int]:
    """0, every step to 64, then every 2nd to 128, every 4th to 256, ..., and the last: the norm falls fast at first."""
    at = {0, steps}
    step = 0
    while step < steps:
        at.add(step)
        step += 2 ** max(0, (max(step, 1)).bit_length() - 6)
    return sorted(at)


def mean_norm(trace: Path) -> float:
    """(1/T) sum_{t<=T} ||grad f(x_t)||, linear between the steps that were evaluated (0 is x_1)."""
    from hvd_adam.training.trace import read

    evals = [line for line in read(trace) if line["kind"] == "eval"]
    at = [line["step"] for line in evals]
    norms = [float(line["gradient_norm"]) for line in evals]
    return float(np.mean(np.interp(np.arange(at[-1]), at, norms)))


if __name__ == "__main__":
    main(*sys.argv[1:])
