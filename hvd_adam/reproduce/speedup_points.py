"""T(eps, s) of the toy under Theorem 17's schedule, measured in compiled loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from hvd_adam import algorithms
from hvd_adam.reproduce.points import Points
from hvd_adam.theory.horizon_fit import search_horizon
from hvd_adam.theory.loops import run
from hvd_adam.theory.problems import PseudoHuber, Quadratic, Toy

DRAWS = 200  # bootstrap draws kept with each point
CALM = 0.1  # s / s* below which T is long and runs differ by less than 1 %
FAR = 10_000.0  # s / s* that stands for infinity: T changes no more

TOY = "toy"
SHAPES: dict[str, Callable[[int, float], Any]] = {
    TOY: lambda d, sigma: Toy(d, sigma=sigma),
    "toy from x_1 = 1": lambda d, sigma: Toy(d, sigma=sigma, start=1.0),
    "toy without its sine": lambda d, sigma: Toy(d, 0.0, sigma),
    "pseudo-Huber, delta 2": lambda d, sigma: PseudoHuber(d, delta=2.0, sigma=sigma),
    "quadratic, curvatures 1 to 1/10": lambda d, sigma: _quadratic(d, sigma, 0.1),
    "quadratic, curvatures 1 to 1/100": lambda d, sigma: _quadratic(d, sigma, 0.01),
    "the same, noise as the curvature": lambda d, sigma: _quadratic(d, sigma, 0.01, curved=True),
}


def _quadratic(d: int, sigma: float, least: float, curved: bool = False) -> Quadratic:
    return Quadratic(tuple(np.geomspace(1.0, least, d).tolist()), sigma, curved)


@dataclass(frozen=True)
class Setting:
    """Theorem 17's alpha and theta, beta = 0.9, on the toy f = sum x^2 + 3 sin^2 x from x_1 = 3, or another shape."""

    alpha: float = 4.0
    theta: float = 1.0
    sigma: float = 20.0
    eps: float = 1.0
    d: int = 10
    shape: str = TOY

    @property
    def problem(self) -> Any:
        """The function and its noise."""
        return SHAPES[self.shape](self.d, self.sigma)

    @property
    def scale(self) -> float:
        """s* = (sigma^2 + 1/(2 theta)) / eps^2, the simple noise scale at ||grad f|| = eps."""
        return (self.sigma**2 + 1 / (2 * self.theta)) / self.eps**2

    def batch(self, ratio: float) -> int:
        """The whole number s >= 1 nearest to ratio s*."""
        return max(1, round(ratio * self.scale))

    def plain(self) -> dict[str, Any]:
        """As a key: the toy goes without saying."""
        return {name: value for name, value in asdict(self).items() if value != TOY}

    def text(self) -> str:
        """For tables."""
        return f"alpha {self.alpha:g}, theta {self.theta:g}, sigma {self.sigma:g}, eps {self.eps:g}, d {self.d}"


@dataclass(frozen=True)
class Point:
    """T(eps) of one setting at one s, with its bootstrap interval and draws of log T."""

    setting: Setting
    s: int
    horizon: float
    low: float
    high: float
    runs: int
    exponent: float
    lack_of_fit: float
    log_draws: np.ndarray = field(repr=False, compare=False)

    @property
    def ratio(self) -> float:
        """s / s*"""
        return self.s / self.setting.scale

    def plain(self) -> dict[str, Any]:
        """For result.json: without the draws."""
        numbers = {"T": round(self.horizon, 2), "low": round(self.low, 2), "high": round(self.high, 2)}
        return {
            **self.setting.plain(),
            "s": self.s,
            **numbers,
            "runs": self.runs,
            "lack_of_fit": round(self.lack_of_fit, 2),
        }


def measure(setting: Setting, s: int, guess: float, points: Points, runs: int = 8) -> Point:
    """The point (setting, s): from `points`, or by `search_horizon`, each run with a seed of its own."""
    key = {**setting.plain(), "s": s, "runs": runs}
    value = points.get(key, lambda: _search(setting, s, guess, runs, key))
    return Point(setting, s, **{**value, "log_draws": np.array(value["log_draws"])})


def criterion(setting: Setting, s: int, horizon: int, seeds: list[int]) -> np.ndarray:
    """(1/T) sum_t ||grad f(x_t)|| of one run a seed, T = `horizon`."""
    member = algorithms.theorem17(setting.alpha, setting.theta)
    return run(setting.problem, member, horizon, seeds, batch=s).mean_norm[-1]


def _search(setting: Setting, s: int, guess: float, runs: int, key: dict[str, Any]) -> dict[str, Any]:
    named = sorted((name, v if isinstance(v, str) else float(v)) for name, v in key.items())
    entropy = np.random.SeedSequence(list(repr(named).encode()))
    seeds = iter(entropy.generate_state(20_000, np.uint64) >> np.uint64(2))

    def once(horizon: int, count: int) -> np.ndarray:
        return criterion(setting, s, horizon, [int(next(seeds)) for _ in range(count)])

    fit = search_horizon(once, setting.eps, guess, runs=runs, resamples=DRAWS)
    return {
        "horizon": fit.horizon,
        "low": fit.low,
        "high": fit.high,
        "runs": fit.runs,
        "exponent": fit.exponent,
        "lack_of_fit": fit.lack_of_fit,
        "log_draws": [round(math.log(draw), 5) for draw in fit.draws],
    }


def curve(setting: Setting, ratios: list[float], points: Points, runs: int = 8, thrifty: bool = True) -> list[Point]:
    """Points at each s / s*, from the largest s down, so that each guesses the next; in order of growing s.

    A thrifty curve makes half the runs below CALM: they are long, and their criteria differ little.
    """
    found: list[Point] = []
    guess = 300.0 / setting.eps
    for s in sorted({setting.batch(ratio) for ratio in ratios}, reverse=True):
        if found:
            guess = found[-1].horizon * (found[-1].s / s) ** (0.3 if found[-1].ratio > 1 else 1.1)
        few = runs if s / setting.scale > CALM else max(3, runs // 2)
        found.append(measure(setting, s, guess, points, few if thrifty else runs))
    return found[::-1]
