"""Local slopes, collapse and exponents of T(eps, s), from points with bootstrap draws."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from hvd_adam.reproduce.report import NO, UNDECIDED, YES, Statement, Table
from hvd_adam.reproduce.speedup_points import Point

Interval = tuple[float, float, float]  # value, low, high


def local_slope(one: Point, other: Point) -> Interval:
    """d log T / d log s between two points of a curve, with its 95 % bootstrap interval."""
    n = min(len(one.log_draws), len(other.log_draws))
    width = math.log(other.s / one.s)
    drawn = (other.log_draws[:n] - one.log_draws[:n]) / width
    low, high = np.quantile(drawn, [0.025, 0.975])
    return math.log(other.horizon / one.horizon) / width, float(low), float(high)


def slopes(curve: list[Point]) -> list[tuple[float, Interval]]:
    """For each pair of neighbours: s*/s of the larger s, and the slope."""
    return [(1 / other.ratio, local_slope(one, other)) for one, other in pairwise(curve)]


def linear(curves: list[list[Point]]) -> list[Statement]:
    """The slope where s <= s*/100: one statement a curve, over all of its doublings there together."""
    found = []
    for curve in curves:
        small = [p for p in curve if p.ratio <= 0.0101]
        if len(small) < 2:
            continue
        overall = local_slope(small[0], small[-1])
        each = ", ".join(slope_text(slope) for _, slope in slopes(small))
        inside = overall[1] >= -1.03 and overall[2] <= -0.97
        outside = overall[2] < -1.03 or overall[1] > -0.97
        found.append(
            Statement(
                f"linear speed-up: slope -1.00 +- 0.03 where s <= s*/100 ({small[0].setting.text()})",
                f"from s = {small[0].s} to {small[-1].s}: {slope_text(overall)}; by doubling: {each}",
                f"{sum(p.runs for p in small)} runs, {len(small)} values of s",
                YES if inside else NO if outside else UNDECIDED,
                "agrees: the 95 % bootstrap interval lies in [-1.03, -0.97]; differs: it lies outside",
                "" if inside else "s* sets the scale; where the linear stretch begins depends on alpha and theta too.",
            )
        )
    return found


def slope_text(slope: Interval) -> str:
    """ "-1.01 (-1.02 to -1.00)" """
    return f"{slope[0]:.3f} ({slope[1]:.3f} to {slope[2]:.3f})"


def steepest(curves: list[list[Point]]) -> Statement:
    """The super-linear stretch between the linear one and the elbow."""
    said, judged, worst = [], [], dict[float, float]()
    for curve in curves:
        where, slope = min(slopes(curve), key=lambda pair: pair[1][0])
        setting = curve[0].setting
        worst[setting.eps] = min(slope[0], worst.get(setting.eps, 0.0))
        if setting.alpha**2 >= setting.theta:
            judged.append(slope[2] < -1.0)
        said.append(f"{setting.text()}: {slope_text(slope)} at s*/s = {where:.2g}")
    return Statement(
        "on the way to the elbow the speed-up is super-linear where alpha >= sqrt(theta), steeper for large alpha and "
        "small eps",
        "steepest local slope: "
        + ", ".join(f"{slope:.2f} at eps {eps:g}" for eps, slope in sorted(worst.items()))
        + "; by curve: "
        + "; ".join(said),
        f"{sum(p.runs for curve in curves for p in curve):,} runs",
        YES if all(judged) else UNDECIDED,
        "agrees: the interval of the steepest slope lies below -1 for every curve with alpha >= sqrt(theta)",
        "As s grows, v holds more signal and less noise, which shortens the steps and quietens the iterates. Below "
        "alpha = sqrt(theta) the speed-up comes to linear from above.",
    )


def slope_table(curves: list[list[Point]]) -> Table:
    """Local slopes by s*/s of the larger s; a row a curve."""
    edges = [400, 200, 100, 50, 25, 12.5, 6.25, 3.1, 1.6, 0.8, 0.4, 0.2, 0.1]
    rows = []
    for curve in curves:
        cells = dict.fromkeys(edges, "")
        for where, slope in slopes(curve):
            near = min(edges, key=lambda edge: abs(math.log(edge / where)))
            if abs(math.log(near / where)) < 0.3:
                cells[near] = f"{slope[0]:.2f} +- {(slope[2] - slope[1]) / 2:.2f}"
        rows.append([curve[0].setting.text(), *cells.values()])
    return Table(
        "Local slope of a doubling, +- half its 95 % interval, by s*/s of the larger s",
        ["setting", *map(str, edges)],
        rows,
    )


def at_ratio(curve: list[Point], ratio: float) -> float:
    """log T at s / s* = ratio: linear on the log-log curve between the two nearest points, or along the last of it."""
    x = np.log([p.ratio for p in curve])
    y = np.log([p.horizon for p in curve])
    k = int(np.clip(np.searchsorted(x, math.log(ratio)) - 1, 0, len(x) - 2))
    return float(y[k] + (y[k + 1] - y[k]) * (math.log(ratio) - x[k]) / (x[k + 1] - x[k]))


def collapse(groups: dict[float, list[list[Point]]], ratios: list[float]) -> list[Statement]:
    """For each eps: curves of several sigma, compared at equal s/s*."""
    found = []
    for eps, curves in groups.items():
        worst, where = 0.0, 0.0
        for ratio in ratios:
            logs = np.array([at_ratio(curve, ratio) for curve in curves])
            off = float(np.max(np.abs(np.expm1(logs - logs.mean()))))
            if off > worst:
                worst, where = off, ratio
        found.append(
            Statement(
                f"at eps = {eps:g} the curves of {len(curves)} sigma are one curve in s/s*, within 5 %",
                f"largest distance of a curve from their mean: {worst:.1%}, at s/s* = {where:.3g}",
                f"sigma {', '.join(f'{c[0].setting.sigma:g}' for c in curves)}; {len(ratios)} values of s/s*; "
                f"{sum(p.runs for c in curves for p in c):,} runs",
                YES if worst <= 0.05 else NO,
                "agrees: at most 5 % at every s/s*, s being rounded to whole numbers and T moved along the local slope",
            )
        )
    return found


def across_eps(groups: dict[float, list[list[Point]]], ratios: list[float]) -> Statement:
    """T eps^2 as a function of s/s* at small s/s*."""
    worst = 0.0
    small = [ratio for ratio in ratios if ratio <= 1 / 30]
    for ratio in small:
        logs = np.array(
            [np.mean([at_ratio(c, ratio) for c in curves]) + 2 * math.log(eps) for eps, curves in groups.items()]
        )
        worst = max(worst, float(np.expm1(logs.max() - logs.min())))
    return Statement(
        "T eps^2 is a function of s/s* for s <= s*/30, within 15 %",
        f"largest over smallest T eps^2: {1 + worst:.3f}",
        f"eps {', '.join(f'{eps:g}' for eps in groups)}; s/s* = {', '.join(f'{r:.3g}' for r in small)}",
        YES if worst <= 0.15 else NO,
        "agrees: at most 15 % between the largest and the smallest",
    )


def exponent(points: list[Point], of: str, expected: float, within: float) -> Statement:
    """d log T / d log eps or sigma at one s, by least squares, with its bootstrap interval."""
    x = np.log([getattr(p.setting, of) for p in points])
    x = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    value = float(x @ np.log([p.horizon for p in points]))
    n = min(len(p.log_draws) for p in points)
    low, high = np.quantile(x @ np.array([p.log_draws[:n] for p in points]), [0.025, 0.975])
    inside = abs(low - expected) <= within and abs(high - expected) <= within
    outside = high < expected - within or low > expected + within
    fixed = points[0].setting
    other = f"sigma {fixed.sigma:g}" if of == "eps" else f"eps {fixed.eps:g}"
    return Statement(
        f"T goes like {of}^{expected:g} (+- {within:g}) at fixed small s (alpha {fixed.alpha:g})",
        f"exponent {value:.3f} ({low:.3f} to {high:.3f})",
        f"{of} {', '.join(f'{getattr(p.setting, of):.3g}' for p in points)}; {other}, s = {points[0].s}; "
        f"{sum(p.runs for p in points)} runs",
        YES if inside else NO if outside else UNDECIDED,
        f"agrees: the 95 % bootstrap interval lies within {within:g} of {expected:g}; differs: it lies outside",
    )
