"""When s grows k-fold and T shrinks k-fold: which rule for the learning rate keeps the gradient where it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy.special import stdtrit

from hvd_adam.algorithms import Algorithm
from hvd_adam.reproduce.points import Points
from hvd_adam.reproduce.report import NO, UNDECIDED, YES, Statement, Table
from hvd_adam.reproduce.speedup_points import Setting, measure
from hvd_adam.schedules import Constant
from hvd_adam.theory.loops import run
from hvd_adam.theory.problems import Toy

SETTING = Setting(4, 1)
POWERS = {"square root": 0.5, "unchanged": 0.0, "linear": 1.0}  # alpha_t times k to this power


def judge_square_root_rule(points: Points, quick: bool) -> tuple[Statement, Table]:
    """alpha_t sqrt(k), 1 - theta_t times k, v_0 / k, beta fixed; beside it alpha_t unchanged and alpha_t k.

    All of them move 1 - theta_t and v_0 alike.
    """
    s, factors, runs = (40, (4, 16), 4) if quick else (2, (4, 16, 64), 8)
    base = measure(SETTING, s, 1.6e6 * 2 / s, points, 4 if quick else 16)
    rows, last = [], {}
    for k in (1, *factors):
        cells = []
        for rule, power in POWERS.items():
            key = {"rule": rule, "s": s, "k": k, "runs": runs, "steps": round(base.horizon / k)}
            norms = points.get(key, partial(_norms, s, k, power, base.horizon, runs))
            mean, reach = half_interval(norms)
            last[k, rule] = (mean / SETTING.eps - 1, reach / SETTING.eps)
            cells.append(f"{mean:.4f} +- {reach:.4f}")
        rows.append([str(k), str(s * k), f"{base.horizon / k:,.0f}", *cells])
    k = factors[1]
    own, others = last[k, "square root"], [abs(last[k, rule][0]) for rule in ("unchanged", "linear")]
    statement = Statement(
        "the square-root rule keeps the gradient when s grows k-fold and T shrinks k-fold",
        f"k = {k}: gradient norm {own[0]:+.1%} +- {own[1]:.1%} with alpha_t sqrt(k); {last[k, 'unchanged'][0]:+.1%} "
        f"with alpha_t unchanged, {last[k, 'linear'][0]:+.1%} with alpha_t k",
        f"s = {s} to {s * k}, {runs} runs each; {SETTING.text()}",
        YES if abs(own[0]) + own[1] < 0.05 and min(others) > 0.05 else NO if abs(own[0]) > min(others) else UNDECIDED,
        "agrees: within 5 % with the rule, further off without it",
    )
    header = ["k", "s", "T", *(f"alpha_t k^{power:g} ({rule})" for rule, power in POWERS.items())]
    return statement, Table("Mean gradient norm (target 1) +- 95 % when s grows and T shrinks by k", header, rows)


def half_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of two or more values, and half its 95 % interval by Student's t."""
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)), float(stdtrit(len(values) - 1, 0.975)) * error


def _norms(s: int, k: int, power: float, horizon: float, runs: int) -> list[float]:
    steps = max(2, round(horizon / k))
    before = round(horizon)
    v0 = 1 / (s * SETTING.d * k)
    alpha = SETTING.alpha / math.sqrt(before) * k**power
    member = Algorithm("rule", Constant(alpha), Constant(0.9), Constant(1 - k * SETTING.theta / before), v0=v0)
    seeds = [1000 * k + round(100 * power) * 10**6 + i for i in range(runs)]
    toy = Toy(d=SETTING.d, sigma=SETTING.sigma)
    return [float(x) for x in run(toy, member, steps, seeds, batch=s * k).mean_norm[-1]]
