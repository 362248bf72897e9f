"""Writes a study's folder without running anything: steps, losses and noise are made up, so that the truth is known."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hvd_adam.config import from_plain as run_from_plain
from hvd_adam.study.config import StudyConfig, from_plain
from hvd_adam.study.plan import Cell, Run, plan

Steps = Callable[[Cell, int], float]  # cell and seed -> steps to the target; inf: not within the budget

BASE: dict[str, Any] = {
    "name": "made",
    "base": {"task": {"name": "digits", "model": "mlp"}, "algorithm": {"name": "adam", "lr": 0.001}, "local_batch": 8},
    "grid": {"workers": [1, 2, 4, 8, 16]},
    "seeds": 5,
    "targets": [{"measure": "train_loss", "at_most": 0.3}],
    "budget": {"steps": 20000},
}

SMALL: dict[str, Any] = {
    "name": "small",
    "base": {"task": {"name": "digits", "model": "softmax"}, "algorithm": {"name": "adam", "lr": 0.01}},
    "grid": {"workers": [1, 2]},
    "seeds": 2,
    "targets": [{"measure": "loss", "at_most": 0.5}],
    "budget": {"steps": 100},
}


def study_of(**changes: Any) -> StudyConfig:
    """The study above with some keys changed."""
    return from_plain({**json.loads(json.dumps(BASE)), **changes})


def hyperbola(cell: Cell, seed: int, floor: float = 300, critical: float = 400, spread: float = 0.05) -> float:
    """S = floor (1 + critical / batch), log-normal about it; each cell and seed its own draw."""
    noise = np.random.default_rng([seed, cell.batch]).normal()
    return floor * (1 + critical / cell.batch) * math.exp(spread * noise)


def make(
    folder: Path, study: StudyConfig, steps: Steps = hyperbola, lines: int = 40, picks: dict[str, float] | None = None
) -> Path:
    """Writes study.yaml and every run of the plan."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(study.to_yaml())
    if picks:
        (folder / "picks.json").write_text(json.dumps(picks))
    made = plan(study, picks)
    for cell in (*made.tuning, *made.cells):
        for run in cell.runs:
            make_run(folder / run.place, cell, run, study, steps(cell, run.seed), lines)
    return folder


def make_run(path: Path, cell: Cell, run: Run, study: StudyConfig, steps: float, lines: int = 40) -> None:
    """One run directory: looks on the study's grid until the target is met, `lines` lines of steps between them."""
    config = run_from_plain(dict(run.config))
    looks, last = [0, 1], min(steps, cell.steps)
    while looks[-1] < last:
        looks.append(min(max(looks[-1] + 1, math.ceil(looks[-1] * study.resolution)), cell.steps))
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(config.to_yaml())
    text = [_line("start", schema=1, identity=config.identity(), ranks=cell.ranks, engine="solo", hosts=["here"],
                  device="cpu", versions={"torch": "2.14.1"}, environment={"OMP_NUM_THREADS": "1"})]  # fmt: skip
    rows = [_step(t, cell, run) for t in np.unique(np.linspace(1, looks[-1], lines).astype(int)).tolist()]
    end = max(steps, 1) if steps < math.inf else 2 * last
    if cell.horizon:  # theory mode: the criterion falls like T^(-1/4), to the target at T = `steps`
        looks, end = [0, cell.horizon], steps
    values = {t: 0.3 * (end / max(t, 0.5)) ** 0.4 if steps > t else 0.29 for t in looks}
    if cell.horizon:
        values = {t: 0.3 * (steps / max(t, 0.5)) ** 0.25 for t in looks}
    rows += [(t, _line("eval", step=t, samples=t * cell.batch, seconds=0.01, train_loss=values[t])) for t in looks]
    text += [line for _, line in sorted(rows, key=lambda row: row[0])]
    reached = steps <= looks[-1] and not cell.horizon
    text.append(_line("end", step=looks[-1], status="done"))
    (path / "trace.jsonl").write_text("".join(text))
    before = next((a for a, b in itertools.pairwise(looks) if b >= steps), 0)
    (path / "result.json").write_text(json.dumps({
        "schema": 1, "identity": config.identity(), "step": looks[-1], "samples": looks[-1] * cell.batch,
        "status": "done", "ended_by": "target" if reached else "steps", "ranks": cell.ranks,
        "workers": cell.workers,
        "seconds": {"data": 1e-3 * looks[-1], "forward": 2e-3 * looks[-1], "backward": 4e-3 * looks[-1],
                    "wait": 1e-3 * cell.ranks * looks[-1], "step": 1e-3 * looks[-1]},
        "reached": {str(study.targets[0]): [before, looks[-1] if steps else 0]} if reached else {},
    }))  # fmt: skip


def _step(t: int, cell: Cell, run: Run) -> tuple[int, str]:
    """Gradient norms of noise scale 400 samples: tr Sigma = 40, |gradient|^2 = 0.1."""
    draw = np.random.default_rng([run.seed, cell.batch, t])
    small, large = (0.1 + 40 / n for n in (cell.batch // cell.workers, cell.batch))
    noise = {"worker_square": small * draw.normal(1, 0.02)} if cell.workers > 1 else {}
    norm = math.sqrt(large * draw.normal(1, 0.02))
    seconds = {"data": 0.001, "forward": 0.002, "backward": 0.004, "wait": 0.001, "step": 0.001}
    return t, _line("step", step=t, samples=t * cell.batch, seconds=seconds, loss=2.0, grad_norm=norm, lr=0.001,
                    beta1=0.9, beta2=0.999, skipped=False, **noise)  # fmt: skip


def _line(kind: str, **values: Any) -> str:
    return json.dumps({"kind": kind, **values}) + "\n"
