"""The elbow of the speed-up: where T(s) has come down to twice T(infinity); and a rule for where that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hvd_adam.reproduce.points import Points
from hvd_adam.reproduce.report import NO, YES, Statement, Table
from hvd_adam.reproduce.speedup_points import FAR, Point, Setting, measure

FITTED = tuple(
    Setting(alpha, theta, sigma, eps, d)
    for alpha, theta, sigma, eps, d in [
        (1, 1, 10, 1, 10), (1, 1, 20, 2, 10), (1, 1, 20, 0.5, 10), (1, 10, 10, 1, 10), (2, 1, 10, 1, 10),
        (2, 0.5, 10, 1, 20), (2, 4, 20, 2, 10), (4, 1, 10, 1, 10), (4, 1, 20, 2, 10), (4, 1, 10, 0.5, 10),
        (4, 10, 10, 1, 10), (4, 4, 10, 1, 5), (8, 1, 20, 1, 10), (8, 4, 20, 2, 20), (8, 10, 20, 0.5, 10),
        (2, 1, 20, 1, 40),
    ]
)  # fmt: skip


def held_out(count: int = 12) -> list[Setting]:
    """Settings drawn at random, log-uniform over the box that FITTED spans."""
    rng = np.random.default_rng(20)
    low, high = np.log([1, 0.5, 7, 0.5, 5]), np.log([8, 10, 40, 2, 40])
    found = []
    for _ in range(count):
        alpha, theta, sigma, eps, d = np.exp(rng.uniform(low, high))
        found.append(Setting(round(alpha, 2), round(theta, 2), round(sigma, 1), round(eps, 2), round(d)))
    return found


@dataclass(frozen=True)
class Elbow:
    """s at which T(s) = 2 T(infinity), over s*, with a bootstrap interval."""

    setting: Setting
    flat: float
    ratio: float
    low: float
    high: float


def find_elbow(setting: Setting, points: Points, runs: int = 8) -> Elbow:
    """Brackets the elbow by factors of two, then halves the bracket once, and interpolates on the log-log curve."""
    flat = measure(setting, setting.batch(FAR), 400 / setting.eps, points, runs)
    level = math.log(2 * flat.horizon)
    place, known = 1.0, dict[int, Point]()

    def at(ratio: float) -> Point:
        s = setting.batch(ratio)
        near = min(known.values(), key=lambda p: abs(math.log(p.s / s)), default=flat)
        guess = near.horizon * (near.s / s) ** 0.7 if near is not flat else 2 * flat.horizon
        known[s] = measure(setting, s, guess, points, runs)
        return known[s]

    while math.log(at(place).horizon) > level:
        place *= 2
    while math.log(at(place).horizon) <= level:
        place /= 2
    at(place * math.sqrt(2))
    found = sorted(known.values(), key=lambda p: p.s)
    above = max(i for i, p in enumerate(found) if math.log(p.horizon) > level)
    one, other = found[above], found[above + 1]
    middle = _crossing(one, other, math.log(one.horizon), math.log(other.horizon), level)
    n = min(len(p.log_draws) for p in (one, other, flat))
    drawn = _crossing(one, other, one.log_draws[:n], other.log_draws[:n], math.log(2) + flat.log_draws[:n])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Elbow(setting, flat.horizon, *(float(np.exp(x)) / setting.scale for x in (middle, low, high)))


def _crossing(
    one: Point, other: Point, y0: np.ndarray | float, y1: np.ndarray | float, level: np.ndarray | float
) -> np.ndarray:
    """log s where the line through two points of the curve meets `level`."""
    x0, x1 = math.log(one.s), math.log(other.s)
    return np.asarray(x0 + (x1 - x0) * (np.asarray(y0) - level) / (np.asarray(y0) - np.asarray(y1)))


def predictors(settings: list[Setting]) -> np.ndarray:
    """1, log alpha, log theta, log(eps / sqrt(d)) of each setting.

    d enters through eps/sqrt(d) alone: the coordinates are alike, and each has sigma^2/d of the noise.
    """
    return np.array([[1.0, math.log(s.alpha), math.log(s.theta), math.log(s.eps / math.sqrt(s.d))] for s in settings])


def fit_rule(elbows: list[Elbow]) -> np.ndarray:
    """Coefficients of log(elbow / s*) on `predictors`, by least squares."""
    logs = np.log([elbow.ratio for elbow in elbows])
    return np.linalg.lstsq(predictors([elbow.setting for elbow in elbows]), logs, rcond=None)[0]


def judge_rule(fitted: list[Elbow], fresh: list[Elbow]) -> tuple[list[Statement], Table]:
    """The elbows' range, the rule's own error, and its error on settings that it was not fitted to."""
    rule = fit_rule(fitted)
    shown = f"elbow = {math.exp(rule[0]):.2f} alpha^{rule[1]:.2f} theta^{rule[2]:.2f} (eps/sqrt(d))^{rule[3]:.2f} s*"
    everything = [*fitted, *fresh]
    predicted = np.exp(predictors([elbow.setting for elbow in everything]) @ rule)
    off = np.array([p / elbow.ratio for p, elbow in zip(predicted, everything, strict=True)])
    factors = np.maximum(off, 1 / off)
    own, others = factors[: len(fitted)], factors[len(fitted) :]
    ratios = [elbow.ratio for elbow in everything]
    inside = sum(0.3 <= ratio <= 5 for ratio in ratios)
    statements = [
        Statement(
            "the elbow, T(s) = 2 T(infinity), lies at 0.3 to 5 times s*",
            f"elbow / s* from {min(ratios):.2f} to {max(ratios):.2f}; inside for {inside} of {len(ratios)} settings",
            f"{len(ratios)} settings of (alpha, theta, sigma, eps, d)",
            YES if inside == len(ratios) else NO,
            "agrees: inside for every setting",
            "" if inside == len(ratios) else "The prefactor grows with alpha: settings with alpha above 5 lie beyond.",
        ),
        Statement(
            "a rule for the elbow's prefactor predicts it within 1.5x on settings that it was not fitted to",
            f"{shown}; largest factor off {others.max():.2f} (median {np.median(others):.2f}); "
            f"on its own settings {own.max():.2f}",
            f"fitted to {len(fitted)} settings, judged on {len(fresh)} drawn at random",
            YES if others.max() <= 1.5 else NO,
            "agrees: within 1.5x on every one",
        ),
    ]
    rows = [
        [elbow.setting.text(), "fitted" if k < len(fitted) else "held out", f"{elbow.flat:.0f}",
         f"{elbow.ratio:.2f} ({elbow.low:.2f} to {elbow.high:.2f})", f"{predicted[k]:.2f}"]
        for k, elbow in enumerate(everything)
    ]  # fmt: skip
    title = "Elbow over s* (95 % bootstrap interval), and what the rule says"
    return statements, Table(title, ["setting", "used", "T(infinity)", "elbow / s*", "rule"], rows)
