"""T(eps, s) once more, through the real distributed path: ranks, collectives, GenericAdam, the trace."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hvd_adam.errors import RunError
from hvd_adam.launchers import launcher
from hvd_adam.reproduce.points import Points
from hvd_adam.reproduce.ranks import answered, evaluated_at
from hvd_adam.reproduce.report import NO, UNDECIDED, YES, Statement, Table
from hvd_adam.reproduce.speedup_points import Setting, measure
from hvd_adam.theory.horizon_fit import fit_horizon

SETTING = Setting(1, 1, 20, 1)
RATIOS = (0.8, 1.0, 1.25)  # horizons, as shares of the compiled loops' T(eps)


def compare(folder: Path, points: Points, quick: bool) -> tuple[Statement, Table]:
    """Runs both ways at several s and compares T(eps).

    A rank computes the gradients of its s / ranks workers as one batch.
    """
    ranks, each, runs = (2, (512,), 2) if quick else (4, (32, 128, 256), 6)
    loops = [measure(SETTING, ranks * n, 1.5e5 / (ranks * n) + 600, points, 16) for n in each]
    horizons = [[max(2, round(p.horizon * ratio)) for ratio in RATIOS for _ in range(runs)] for p in loops]
    orders = [run_config(p.setting, p.s, ranks, t, seed) for p, ts in zip(loops, horizons, strict=True)
              for seed, t in enumerate(ts, start=1)]  # fmt: skip
    answers = iter(_made(folder / "ranks", ranks, orders))
    rows, apart, agreed, together = [], [], [], []
    joint = 0.05 / len(each) / 2  # so that all intervals hold together in 95 %
    for point, ts, count in zip(loops, horizons, each, strict=True):
        mine = [next(answers) for _ in ts]
        fit = fit_horizon(ts, [line["mean_norm"] for line in mine], SETTING.eps, resamples=len(point.log_draws))
        n = min(len(fit.draws), len(point.log_draws))
        draws = fit.draws[:n] / np.exp(point.log_draws[:n])
        low, high, lowest, highest = np.quantile(draws, [0.025, 0.975, joint, 1 - joint])
        apart.append(fit.horizon / point.horizon)
        agreed.append(bool(low <= 1 <= high))
        together.append(bool(lowest <= 1 <= highest))
        rows.append([
            str(point.s), f"{ranks} x {count}", f"{point.horizon:,.0f} ({point.low:,.0f} to {point.high:,.0f})",
            f"{fit.horizon:,.0f} ({fit.low:,.0f} to {fit.high:,.0f})", f"{apart[-1]:.3f} ({low:.3f} to {high:.3f})",
            str(fit.runs),
        ])  # fmt: skip
    statement = Statement(
        "compiled loops and the distributed path give the same T(eps)",
        f"T by ranks over T by loops: {', '.join(f'{a:.3f}' for a in apart)}",
        f"s = {', '.join(row[0] for row in rows)} on {ranks} ranks, {len(orders)} runs; {SETTING.text()}",
        verdict(agreed, together),
        "agrees: the 95 % bootstrap interval of the ratio holds 1 at every s; undecided: only the wider ones do that "
        "hold together in 95 %",
        "" if all(agreed) else f"Of {len(agreed)} intervals {agreed.count(False)} misses 1; see the table.",
    )
    header = ["s", "ranks x workers", "T, compiled loops", "T, ranks", "ratio", "runs by ranks"]
    return statement, Table("The same T(eps) through the distributed path", header, rows)


def verdict(agreed: list[bool], together: list[bool]) -> str:
    """Of many 95 % intervals some miss: one that misses alone refutes nothing where the joint ones hold."""
    return YES if all(agreed) else UNDECIDED if all(together) else NO


def _made(place: Path, ranks: int, orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers to all orders, in order; those of an interrupted job with the same orders are kept."""
    place.mkdir(parents=True, exist_ok=True)
    text = json.dumps(orders)
    if not (place / "orders.json").exists() or (place / "orders.json").read_text() != text:
        (place / "answers.jsonl").unlink(missing_ok=True)
        (place / "orders.json").write_text(text)
    if len(answered(place / "answers.jsonl")) < len(orders):
        _launch(place, ranks)
    answers = answered(place / "answers.jsonl")
    return [answers[k] for k in range(len(orders))]


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
