"""How long does the report of a large study take, and how much memory?

    python benchmarks/report.py [--runs 1000] [--lines 10000] [--cells 10] [--noise-every 10] [--times 5]

Makes a study's folder without training anything (2.3 GB by default, in a
temporary folder that is removed), then runs `study report` on it in fresh processes: seconds from start to end, and the
largest resident set of the process and its children. Files are written just before, so they are read from memory.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hvd_adam.config import from_plain as run_from_plain
from hvd_adam.study.config import StudyConfig, from_plain
from hvd_adam.study.plan import Cell, Run, plan

TARGET = 0.3


def study_of(runs: int, lines: int, cells: int) -> StudyConfig:
    """Workers 1 to `cells`, as many seeds as make up the runs."""
    return from_plain({
        "name": "large",
        "base": {"task": {"name": "digits", "model": "mlp"}, "algorithm": {"name": "adam"}, "local_batch": 8},
        "grid": {"workers": [1 + i for i in range(cells)]},
        "seeds": runs // cells,
        "targets": [{"measure": "train_loss", "at_most": TARGET}],
        "budget": {"steps": lines},
        "resolution": 1.05,
    })  # fmt: skip


def make(folder: Path, study: StudyConfig, lines: int, noise_every: int) -> int:
    """Writes every run of the plan; returns bytes. Step lines are those of its cell, evaluations a run's own."""
    total = 0
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(study.to_yaml())
    for cell in plan(study).cells:
        steps = [_step(t, cell, noise_every) for t in range(1, lines + 1)]
        for run in cell.runs:
            total += _write(folder / run.place, cell, run, study, steps)
    return total


def _step(t: int, cell: Cell, noise_every: int) -> str:
    draw = np.random.default_rng([cell.batch, t])
    seconds = {k: round(v, 6) for k, v in zip(
        ("data", "forward", "backward", "wait", "step"), draw.uniform(1e-4, 5e-3, 5).tolist(), strict=True
    )}  # fmt: skip
    line: dict[str, Any] = {
        "kind": "step", "step": t, "samples": t * cell.batch, "seconds": seconds, "loss": 0.2 + 2 / math.sqrt(t),
        "grad_norm": math.sqrt((0.1 + 40 / cell.batch) * draw.normal(1, 0.02)), "lr": 0.002, "beta1": 0.9,
        "beta2": 0.999, "skipped": False,
    }  # fmt: skip
    if cell.workers > 1 and t % noise_every == 0:
        line["worker_square"] = (0.1 + 40 / (cell.batch / cell.workers)) * draw.normal(1, 0.02)
    return json.dumps(line) + "\n"


def _write(path: Path, cell: Cell, run: Run, study: StudyConfig, steps: list[str]) -> int:
    config = run_from_plain(dict(run.config))
    draw = np.random.default_rng([cell.batch, run.seed])
    end = min(len(steps) * 0.8, 300 * (1 + 1600 / cell.batch) / 10 * math.exp(0.1 * draw.normal()))
    looks = [0, 1]
    while looks[-1] < len(steps):
        looks.append(min(max(looks[-1] + 1, math.ceil(looks[-1] * study.resolution)), len(steps)))
    path.mkdir(parents=True, exist_ok=True)
    start = {"kind": "start", "schema": 1, "identity": config.identity(), "ranks": 1, "engine": "solo", "hosts": ["h"]}
    parts, before = [json.dumps(start) + "\n"], 0
    for look in looks:
        parts += steps[before:look]
        value = TARGET * (end / max(look, 0.5)) ** 0.4
        told = {"kind": "eval", "step": look, "samples": look * cell.batch, "seconds": 0.01, "loss": value,
                "accuracy": 1 - value / 3, "train_loss": value, "error": value / 3}  # fmt: skip
        parts.append(json.dumps(told) + "\n")
        before = look
    parts.append(json.dumps({"kind": "end", "step": len(steps), "status": "done"}) + "\n")
    text = "".join(parts)
    (path / "trace.jsonl").write_text(text)
    phases = ("data", "forward", "backward", "wait", "step")
    seconds = dict(zip(phases, (1e-3 * len(steps) * draw.uniform(0.9, 1.1, 5)).tolist(), strict=True))
    (path / "result.json").write_text(json.dumps({
        "schema": 1, "identity": config.identity(), "step": len(steps), "samples": len(steps) * cell.batch,
        "status": "done", "ended_by": "steps", "ranks": 1, "workers": cell.workers, "seconds": seconds, "reached": {},
    }))  # fmt: skip
    return len(text)


def timed(folder: Path) -> float:
    """Seconds of one report in a process of its own."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "hvd_adam", "study", "report", str(folder)], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, value in (("runs", 1000), ("lines", 10_000), ("cells", 10), ("noise-every", 10), ("times", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--keep", type=Path, help="make the study here and leave it")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = asked.keep or Path(place) / "large"
        study = study_of(asked.runs, asked.lines, asked.cells)
        if not (folder / "study.yaml").is_file():
            size = make(folder, study, asked.lines, asked.noise_every)
            print(f"{asked.runs:,} runs of {asked.lines:,} steps in {asked.cells} cells: {size / 1e9:.2f} GB")
        found = sorted(timed(folder) for _ in range(asked.times))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    told = ", ".join(f"{seconds:.1f}" for seconds in found)
    print(f"report: median {statistics.median(found):.1f} s of {len(found)} ({told}); largest process {peak:.0f} MiB")
    print(f"load {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} cores")


if __name__ == "__main__":
    main()
