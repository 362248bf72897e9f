"""T(eps, s) once more, through the real distributed path: ranks, collectives, GenericAdam, the trace."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hvd_adam.errors import RunError
from hvd_adam.launchers import launcher
from hvd_adam.reproduce.points import Points
from hvd_adam.reproduce.ranks import answered, evaluated_at
from hvd_adam.reproduce.report import NO, YES, Statement, Table
from hvd_adam.reproduce.speedup_points import Point, Setting, measure
from hvd_adam.theory.horizon_fit import HorizonFit, fit_horizon

SETTING = Setting(1, 1, 20, 1)
RATIOS = (0.8, 1.0, 1.25)  # horizons, as shares of the compiled loops' T(eps)


def compare(folder: Path, points: Points, quick: bool) -> tuple[Statement, Table]:
    """Runs both ways at several s and compares T(eps).

    A rank computes the gradients of its s / ranks workers as one batch.
    """
    ranks, each, runs = (2, (512,), 2) if quick else (4, (8, 32, 128, 256), 4)
    rows, apart, overlap = [], [], []
    for count in each:
        s = ranks * count
        point = measure(SETTING, s, 1.5e5 / s + 600, points, 16)
        fit, seconds, steps = _distributed(folder, point, ranks, runs)
        ratio = np.exp(np.log(fit.draws[:200]) - point.log_draws[: len(fit.draws[:200])])
        low, high = np.quantile(ratio, [0.025, 0.975])
        apart.append(fit.horizon / point.horizon)
        overlap.append(low <= 1 <= high)
        rows.append([
            str(s), f"{ranks} x {count}", f"{point.horizon:,.0f} ({point.low:,.0f} to {point.high:,.0f})",
            f"{fit.horizon:,.0f} ({fit.low:,.0f} to {fit.high:,.0f})", f"{apart[-1]:.3f} ({low:.3f} to {high:.3f})",
            str(fit.runs), f"{1000 * seconds / steps:.2f}",
        ])  # fmt: skip
    statement = Statement(
        "compiled loops and the distributed path give the same T(eps)",
        f"T by ranks over T by loops: {', '.join(f'{a:.3f}' for a in apart)}",
        f"s = {', '.join(str(ranks * count) for count in each)} on {ranks} ranks; {SETTING.text()}",
        YES if all(overlap) else NO,
        "agrees: the 95 % bootstrap interval of the ratio holds 1 at every s",
    )
    header = ["s", "ranks x workers", "T, compiled loops", "T, ranks", "ratio", "runs by ranks", "ms a step"]
    return statement, Table("The same T(eps) through the distributed path", header, rows)


def _distributed(folder: Path, point: Point, ranks: int, runs: int) -> tuple[HorizonFit, float, int]:
    """T(eps) by training runs on `ranks` ranks; the seconds and steps that they took."""
    horizons = [max(2, round(point.horizon * ratio)) for ratio in RATIOS for _ in range(runs)]
    orders = [run_config(point.setting, point.s, ranks, t, seed) for seed, t in enumerate(horizons, start=1)]
    place = folder / "ranks" / f"s-{point.s}"
    place.mkdir(parents=True, exist_ok=True)
    text = json.dumps(orders)
    if not (place / "orders.json").exists() or (place / "orders.json").read_text() != text:
        (place / "answers.jsonl").unlink(missing_ok=True)
        (place / "orders.json").write_text(text)
    if len(answered(place / "answers.jsonl")) < len(orders):
        _launch(place, ranks)
    answers = answered(place / "answers.jsonl")
    norms = [answers[k]["mean_norm"] for k in range(len(orders))]
    seconds = math.fsum(answers[k]["seconds"] for k in range(len(orders)))
    return fit_horizon(horizons, norms, point.setting.eps), seconds, sum(horizons)


def run_config(setting: Setting, s: int, ranks: int, steps: int, seed: int) -> dict[str, Any]:
    """The config of one run of T = `steps`."""
    return {
        "task": {"name": "toy", "d": setting.d, "sigma": float(setting.sigma)},
        "algorithm": {"name": "theorem17", "alpha": float(setting.alpha), "theta": float(setting.theta)},
        "workers": ranks,
        "local_batch": s // ranks,
        "steps": steps,
        "seed": seed,
        "sampling": "replacement",
        "precision": "float64",
        "condition": "off",
        "evaluate": {"at": evaluated_at(steps), "start": True},
    }


def _launch(place: Path, ranks: int) -> None:
    module = [sys.executable, "-m", "hvd_adam.reproduce.ranks", "orders.json", "answers.jsonl"]
    command = [str(launcher("mpirun")), "-n", str(ranks), "--", *module]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    if done.returncode:
        raise RunError(
            f"the ranks of {place} ended with {done.returncode}",
            done.stderr.strip()[-300:] or "they said nothing",
            "hvd-adam doctor --run says whether ranks start here; what was measured is kept, so start again",
        )
