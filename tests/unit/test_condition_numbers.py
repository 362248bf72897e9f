"""C_0 and clause 4's ratio against a plain evaluation in extended precision, every t to 1e6.

HVD_ADAM_CAMPAIGN=1 takes the whole corpus; a part of it stands here for all.
"""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import pytest

from hvd_adam.theory.condition import check
from tests.unit.test_condition_corpus import PLACES, ROWS

STEPS = 10**6
STRIDE = 1 if os.environ.get("HVD_ADAM_CAMPAIGN") else 24
LONG = np.longdouble
NAMES = {name: getattr(np, name) for name in ("sqrt", "exp", "log", "cos")}
NAMES.update(min=np.minimum, max=np.maximum, pi=LONG(np.pi), T=LONG(STEPS))


def value(schedule: Any, t: np.ndarray) -> np.ndarray:
    """A second reading of the schedules' documentation, in extended precision."""
    if isinstance(schedule, (int, float)):
        return np.full(t.shape, LONG(str(schedule)))
    if isinstance(schedule, str):
        return eval(schedule.replace("^", "**"), {"__builtins__": {}}, {**NAMES, "t": t}) + 0 * t
    ((kind, a),) = schedule.items()
    if kind == "power":
        return LONG(a["scale"]) / t ** LONG(a["exponent"])
    if kind == "polynomial_theta":
        return 1 - gap(schedule, t)
    if kind == "linear_warmup":
        return value(a["then"], t) * np.minimum(t / a["steps"], 1)
    if kind == "piecewise":
        ends = [0, *a["boundaries"], STEPS]
        pieces = zip(ends[:-1], ends[1:], a["pieces"], strict=True)
        return np.concatenate([value(piece, t[start:end]) for start, end, piece in pieces])
    if kind == "product":
        return np.prod([value(factor, t) for factor in a["factors"]], axis=0)
    if kind == "bias_corrected":
        left_theta = 1 - np.cumprod(value(a["theta"], t))
        return value(a["alpha"], t) * np.sqrt(left_theta) / (1 - np.cumprod(value(a["beta"], t)))
    if kind == "horizon_alpha":
        return np.full(t.shape, LONG(a["alpha"]) / np.sqrt(LONG(STEPS)))
    if kind in ("linear_decay", "cosine_decay"):
        done = np.minimum((t - 1) / LONG(a.get("steps", STEPS)), 1)
        share = 1 - done if kind == "linear_decay" else (1 + np.cos(LONG(np.pi) * done)) / 2
        return LONG(a["end"]) + (LONG(a["start"]) - LONG(a["end"])) * share
    pytest.skip(f"{kind} is read by the corpus alone")


def gap(schedule: Any, t: np.ndarray) -> np.ndarray:
    """1 - theta_t."""
    if isinstance(schedule, dict) and "polynomial_theta" in schedule:
        a = schedule["polynomial_theta"]
        return LONG(a["alpha"]) / np.maximum(t, a.get("start", 1)) ** LONG(a["exponent"])
    if isinstance(schedule, dict) and "horizon_theta" in schedule:
        return np.full(t.shape, LONG(schedule["horizon_theta"]["theta"]) / LONG(STEPS))
    if isinstance(schedule, str) and re.fullmatch(r"1 - [^-+]*", schedule):
        return value(schedule.removeprefix("1 - "), t)
    return 1 - value(schedule, t)


def is_comparable(row: dict[str, Any]) -> bool:
    """No member by name, all domains kept, and no underflow or lost digits on the way to 1e6."""
    lost = ("exp(-t)", "exp(-t/", "0.999^t", "exp(-sqrt", "t^2 + 1", "'end': 0.0}", "cos(pi*t/T)")
    return (
        "algorithm" not in row and row["verdict"][1] == "h" and row["verdict"] != "hhvv"
        and not any(text in str(row) for text in (*lost, "step_decay", "geometric"))
    )  # fmt: skip


CHOSEN = [p for p in PLACES if is_comparable(ROWS[p.values[0]])][::STRIDE]


@pytest.mark.parametrize("place", CHOSEN)
def test_constant_and_ratio_are_those_of_a_plain_evaluation(place):
    row = ROWS[place]
    verdict = check(alpha=row["alpha"], beta=row["beta"], theta=row["theta"], steps=STEPS)
    t = np.arange(1, STEPS + 1).astype(LONG)
    with np.errstate(all="ignore"):
        alpha, c = value(row["alpha"], t), gap(row["theta"], t)
        last = verdict.bound.steps
        chi = (alpha / np.sqrt(c))[:last]
        lowest = np.minimum.accumulate(chi)
    assert verdict.constant.within_run == pytest.approx(float(np.max(chi / lowest)), rel=1e-9)
    sums = np.sum((alpha * np.sqrt(c))[:last])
    assert verdict.bound.ratio == pytest.approx(float(sums / (last * alpha[last - 1])), rel=1e-9)


def test_c0_is_the_largest_ratio_of_all_pairs():
    alpha, theta = "0.1*(2 + cos(t))*min(t/50, 1)/sqrt(t)", "1 - 0.5/(t + 3)^0.8"
    verdict = check(alpha=alpha, beta=0.9, theta=theta, steps=1000)
    t = np.arange(1.0, 1001)
    chi = 0.1 * (2 + np.cos(t)) * np.minimum(t / 50, 1) / np.sqrt(t) / np.sqrt(0.5 / (t + 3) ** 0.8)
    pairs = chi[:, None] / chi[None, :]
    assert verdict.constant.within_run == pytest.approx(np.max(np.tril(pairs)), rel=1e-9)


@pytest.mark.parametrize(("s", "r"), [(0.3, 0.5), (0.5, 1.0), (0.9, 1.2)])
def test_block_sums_reach_1e12_with_the_digits_of_the_zeta_function(s, r):
    """sum t^-p over t <= N against the Euler-Maclaurin expansion of mpmath's Hurwitz zeta function."""
    mpmath = pytest.importorskip("mpmath")
    steps, p = 10**12, mpmath.mpf(s) + mpmath.mpf(r) / 2
    verdict = check(alpha=f"0.1/t^{s}", beta=0.9, theta=f"1 - 0.5/t^{r}", steps=steps)
    total = mpmath.harmonic(steps) if p == 1 else mpmath.zeta(p) - mpmath.zeta(p, steps + 1)
    ratio = mpmath.sqrt(0.5) * total * mpmath.mpf(steps) ** (mpmath.mpf(s) - 1)
    assert verdict.bound.ratio == pytest.approx(float(ratio), rel=1e-9)
