"""Simulated scaling studies whose truth is known. Shares no code with the analysis.

A study has cells of batch 16, 32, ... and seeds in each. A run's steps to the target are T = exp(mean + noise); it is
looked at on a geometric grid of whole steps, the same for all cells, and a last time where its budget ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache

import numpy as np

BATCHES = tuple(16 * 2**j for j in range(6))
FLOOR = 200.0
PICK_SPREAD = 0.1
RATES = (0.25, 0.5, 1.0, 2.0, 4.0)  # factors of the base learning rate that tuning tries
BEND = 0.06  # log T added by one factor of two away from a cell's best learning rate; four times that by two


@dataclass(frozen=True)
class Kind:
    """A kind of study.

    Args:
        shape: "line" of the given slope, or "curve", the hyperbola FLOOR (1 + critical / s).
        noise: law of the noise in log T, scaled to `spread`: normal, weibull, gamma, unequal, divergence, picks.
        censored: share of each cell's runs that the budget cuts off.
        grid: ratio of two evaluations less one: 0.05 or 0.25.
        seeds: runs a cell.
        slope: of the line.
        critical: B_crit of the curve.
        spread: SD of the noise in log T.
        factor: steps of the second of two studies over those of the first, see `twins`.
        tuning: seeds that pick a learning rate for each cell, see `tuned`; no part of the kind's own description.
    """

    shape: str = "line"
    noise: str = "normal"
    censored: float = 0.0
    grid: float = 0.05
    seeds: int = 5
    slope: float = -1.0
    critical: float = 128.0
    spread: float = 0.15
    factor: float = 1.0
    tuning: int = field(default=0, repr=False)

    @property
    def means(self) -> np.ndarray:
        s = np.array(BATCHES, float)
        if self.shape == "curve":
            return np.log(FLOOR * (1 + self.critical / s))
        return math.log(4000) + self.slope * np.log(s / s[0])

    @property
    def true_slope(self) -> float:
        """Least-squares slope of the mean log T of the runs that reach, on log s."""
        return float(
            np.polyfit(
                np.log(BATCHES), self.means + (_mean_of_survivors(self.spread) if self.noise == "divergence" else 0), 1
            )[0]
        )

    @property
    def linear_up_to(self) -> int:
        """Largest batch whose samples exceed those of the first two cells (geometric mean) by a fifth at most."""
        samples = self.means + np.log(BATCHES)
        return BATCHES[int(np.flatnonzero(samples - samples[:2].mean() <= math.log(1.2))[-1])]


@dataclass(frozen=True)
class Simulated:
    """A study: what its observer sees, and the truth that changes from study to study, S_min of a curve in steps."""

    runs: list[Run]
    floor: float


@dataclass(frozen=True)
class Run:
    """What an observer sees of a run: the target was met in (low, high]; high is inf where it was not."""

    batch: int
    seed: int
    low: float
    high: float
    diverged: bool


def studies(kind: Kind, count: int, seed: int):
    """Yield `count` studies, `Simulated`; the same seed gives the same studies."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=_key(kind)))
    for _ in range(count):
        noise = _noise(kind, generator)
        yield _study(kind, generator, noise, _level(kind, generator))


def twins(kind: Kind, count: int, seed: int):
    """Yield `count` pairs of studies; runs of one cell and seed share half the variance of their noise."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=_key(kind)))
    for _ in range(count):
        common, *own = (_noise(kind, generator) * math.sqrt(0.5) for _ in range(3))
        level = _level(kind, generator)
        yield tuple(
            _study(kind, generator, common + part, level, shift)
            for part, shift in zip(own, (0, math.log(kind.factor)), strict=True)
        )


@dataclass(frozen=True)
class Tuned:
    """A study whose learning rates are picked: runs by batch and factor, of tuning seeds and of fresh ones.

    Args:
        slope: least-squares slope of the cells' mean log T at the best factor that was tried.
    """

    trials: dict[int, dict[float, list[Run]]]
    fresh: dict[int, dict[float, list[Run]]]
    slope: float


def tuned(kind: Kind, count: int, seed: int):
    """Yield `count` tuned studies; each cell's best learning rate lies anywhere in a factor of two about the middle."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(*_key(kind), kind.tuning)))
    for _ in range(count):
        level, middle = _level(kind, generator), len(RATES) // 2
        best = middle + generator.uniform(-0.5, 0.5, len(BATCHES))
        extra = BEND * (np.arange(len(RATES)) - best[:, None]) ** 2
        means = kind.means[:, None] + level + extra
        runs: list[dict[int, dict[float, list[Run]]]] = []
        for seeds, first in ((kind.tuning, 1000), (kind.seeds, 0)):
            noise = kind.spread * generator.normal(size=(*means.shape, seeds))
            runs.append({
                batch: {
                    rate: [
                        _observe(batch, first + i, math.exp(means[j, k] + z), math.inf, False, _looks(kind.grid))
                        for i, z in enumerate(noise[j, k])
                    ]
                    for k, rate in enumerate(RATES)
                }
                for j, batch in enumerate(BATCHES)
            })  # fmt: skip
        yield Tuned(*runs, float(np.polyfit(np.log(BATCHES), means.min(1), 1)[0]))


HORIZONS = (250, 400, 630, 1000, 1600, 2500, 4000)
THEORY = (1, 2, 4, 8)  # batches of a study in theory mode


def endings(count: int, seeds: int, seed: int) -> dict[tuple[int, int], np.ndarray]:
    """Return criteria of Theorem 17's schedule on the toy (d = 10, sigma = 20), (batch, T) -> (count, seeds).

    A seed draws the same samples at every horizon and batch, as in a study: a batch of s is the first s of them. The
    criterion is the mean over the run of the norm of the exact gradient.
    """
    generator = np.random.default_rng(seed)
    n, d = count * seeds, 10
    states = {
        (s, horizon): (np.full((n, d), 3.0), np.zeros((n, d)), np.full((n, d), 1 / (s * d)))
        for s in THEORY
        for horizon in HORIZONS
    }
    total = {key: np.zeros(n) for key in states}
    for step in range(max(HORIZONS)):
        noise = 20 / math.sqrt(d) * generator.standard_normal((max(THEORY), n, d))
        means = {s: noise[:s].mean(0) for s in THEORY}
        for (s, horizon), (x, m, v) in states.items():
            if step < horizon:
                exact = 2 * x + 3 * np.sin(2 * x)
                total[s, horizon] += np.sqrt((exact**2).sum(1)) / horizon
                gradient = exact + means[s]
                v += (gradient**2 - v) / horizon
                m += 0.1 * (gradient - m)
                x -= m / np.sqrt(v * horizon)
    return {key: value.reshape(count, seeds) for key, value in total.items()}


def _key(kind: Kind) -> tuple[int, ...]:
    return tuple(repr(kind).encode())


def _level(kind: Kind, generator: np.random.Generator) -> float:
    return generator.uniform(0, math.log1p(kind.grid))  # where the grid falls between the means is chance


@cache
def _looks(grid: float) -> np.ndarray:
    return np.unique(np.ceil((1 + grid) ** np.arange(math.log(1e7) / math.log1p(grid))))


def _study(
    kind: Kind, generator: np.random.Generator, noise: np.ndarray, level: float, shift: float = 0.0
) -> Simulated:
    cells, seeds = noise.shape
    log_t = kind.means[:, None] + level + shift + noise
    if kind.noise == "picks":
        log_t += PICK_SPREAD * generator.normal(size=(cells, 1))
    diverged = np.zeros((cells, seeds), bool)
    if kind.noise == "divergence":
        diverged = generator.uniform(size=(cells, seeds)) < _divergence(noise / kind.spread, np.arange(cells)[:, None])
    runs = []
    for j, batch in enumerate(BATCHES):
        budget = math.inf
        if kind.censored:
            budget = math.floor(math.exp(kind.means[j] + level + _quantiles(kind)[j]))
        for seed in range(seeds):
            t = math.exp(log_t[j, seed])
            runs.append(_observe(batch, seed, t, budget, bool(diverged[j, seed]), _looks(kind.grid)))
    return Simulated(runs, FLOOR * math.exp(level))


def _observe(batch: int, seed: int, t: float, budget: float, diverged: bool, looks: np.ndarray) -> Run:
    if diverged:
        return Run(batch, seed, float(math.floor(t / 2)), math.inf, True)
    if t > budget:
        return Run(batch, seed, float(budget), math.inf, False)
    at = int(np.searchsorted(looks, t))
    low = float(looks[at - 1]) if at else 0.0
    return Run(batch, seed, low, float(min(looks[at], budget)), False)


def _noise(kind: Kind, generator: np.random.Generator, seeds: int = 0) -> np.ndarray:
    size = (len(BATCHES), seeds or kind.seeds)
    if kind.noise == "weibull":
        euler = 0.5772156649015329
        return kind.spread * (np.log(generator.exponential(size=size)) + euler) / (math.pi / math.sqrt(6))
    if kind.noise == "gamma":
        shape = 1 / kind.spread**2 + 0.5  # the SD of log T is then `spread` to 1e-4
        return np.log(generator.gamma(shape, size=size) / shape) + 0.5 / shape
    if kind.noise == "unequal":
        return np.geomspace(0.08, 0.25, size[0])[:, None] * generator.normal(size=size)
    return kind.spread * generator.normal(size=size)


def _divergence(z: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the chance that a run diverges: slow runs do, and runs of large batch."""
    return 1 / (1 + np.exp(-(-3 + 1.2 * z + 0.25 * cell)))


def _mean_of_survivors(spread: float) -> np.ndarray:
    z = np.linspace(-8, 8, 4001)
    kept = np.exp(-0.5 * z**2) * (1 - _divergence(z, np.arange(len(BATCHES))[:, None]))
    return spread * (kept * z).sum(1) / kept.sum(1)


@cache
def _quantiles(kind: Kind) -> np.ndarray:
    """Return the quantile of each cell's noise above which the budget ends, from a large sample of its own."""
    return np.quantile(_noise(kind, np.random.default_rng(7), 200_000), 1 - kind.censored, axis=1)
