"""Does the elbow's rule carry over to other functions? Lengths in units of sqrt(gap/(L d)), as `predict` has it."""

from __future__ import annotations

import math

import numpy as np

from hvd_adam.reproduce.points import Points
from hvd_adam.reproduce.report import NO, YES, Statement, Table
from hvd_adam.reproduce.speedup_elbow import find_elbow
from hvd_adam.reproduce.speedup_points import SHAPES, TOY, Setting
from hvd_adam.theory.elbow import units

PLACES = ((4.0, 1.0, 0.3), (1.5, 4.0, 0.2), (6.0, 2.0, 0.6))  # alpha, theta and eps/sqrt(d), in units of the toy
SIGMA, D = 20.0, 10


def in_units(shape: str, alpha: float, theta: float, eps: float) -> Setting:
    """The setting of a shape that is (alpha, theta, eps/sqrt(d)) in units of the toy; sigma 20 there."""
    problem = Setting(shape=shape, d=D).problem
    gap = float(problem.objective(np.full(D, problem.start)))
    length, slope = units(problem.lipschitz, gap, D)
    return Setting(alpha * length, theta, SIGMA * slope, eps * math.sqrt(D) * slope, D, shape)


def judge_shapes(rule: np.ndarray, points: Points, quick: bool) -> tuple[Statement, Table]:
    """The rule's factor off on each shape, at the same places in its own units.

    Args:
        rule: of `speedup_elbow.fit_rule`.
    """
    places = PLACES[:1] if quick else PLACES
    shapes = [shape for shape in SHAPES if shape != TOY]
    rows: list[list[str]] = []
    off: dict[str, list[float]] = {}
    for shape in shapes:
        for place in places:
            elbow = find_elbow(in_units(shape, *place), points, 8)
            predicted = math.exp(rule @ [1.0, *(math.log(value) for value in place)])
            off.setdefault(shape, []).append(predicted / elbow.ratio)
            where = "alpha {:g}, theta {:g}, eps/sqrt(d) {:g}".format(*place)
            rows.append([shape, where, f"{elbow.ratio:.2f} ({elbow.low:.2f} to {elbow.high:.2f})", f"{predicted:.2f}",
                         f"{off[shape][-1]:.2f}"])  # fmt: skip
    worst = max(max(f, 1 / f) for some in off.values() for f in some)
    said = "; ".join(f"{shape} {min(some):.2f} to {max(some):.2f}" for shape, some in off.items())
    statement = Statement(
        "the rule for the elbow's prefactor holds for other functions too, in units of sqrt(gap/(L d)) (ours)",
        f"rule over measured: {said}",
        f"{len(off)} shapes, {len(rows)} settings; d {D}",
        YES if worst <= 1.5 else NO,
        "agrees: within 1.5x on every one",
        "" if worst <= 1.5 else "The shape sets a factor, about the same at all places: L is the largest curvature; "
        "where others are far smaller, T(infinity) is theirs, and the elbow comes sooner.",
    )  # fmt: skip
    header = ["function", "in units of the toy", "elbow / s*", "rule", "rule over measured"]
    return statement, Table("The rule on other functions (95 % bootstrap interval)", header, rows)
