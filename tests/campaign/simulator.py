"""Simulated scaling studies whose truth is known. Shares no code with the analysis.

A study has cells of batch 16, 32, ... and seeds in each. A run's steps to the target are T = exp(mean + noise); it is
looked at on a geometric grid of whole steps, the same for all cells, and a last time where its budget ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BATCHES = tuple(16 * 2**j for j in range(6))
CRITICAL = 128.0  # of the curve
FLOOR = 200.0
SPREAD = 0.15
PICK_SPREAD = 0.1


@dataclass(frozen=True)
class Kind:
    """A kind of study.

    Args:
        shape: "line" of the given slope, or "curve", the hyperbola FLOOR (1 + CRITICAL / s).
        noise: law of the noise in log T, scaled to SPREAD: normal, weibull, gamma, unequal, divergence, picks.
        censored: share of each cell's runs that the budget cuts off.
        grid: ratio of two evaluations less one: 0.05 or 0.25.
        seeds: runs a cell.
    """

    shape: str = "line"
    noise: str = "normal"
    censored: float = 0.0
    grid: float = 0.05
    seeds: int = 5
    slope: float = -1.0

    @property
    def means(self) -> np.ndarray:
        s = np.array(BATCHES, float)
        if self.shape == "curve":
            return np.log(FLOOR * (1 + CRITICAL / s))
        return math.log(4000) + self.slope * np.log(s / s[0])

    @property
    def true_slope(self) -> float:
        """Least-squares slope of the mean log T of the runs that reach, on log s."""
        return float(
            np.polyfit(np.log(BATCHES), self.means + (_mean_of_survivors() if self.noise == "divergence" else 0), 1)[0]
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
    looks = np.unique(np.ceil((1 + kind.grid) ** np.arange(math.log(1e7) / math.log1p(kind.grid))))
    for _ in range(count):
        yield _study(kind, generator, looks)


def _key(kind: Kind) -> tuple[int, ...]:
    text = f"{kind.shape} {kind.noise} {kind.censored} {kind.grid} {kind.seeds} {kind.slope}"
    return tuple(text.encode())


def _study(kind: Kind, generator: np.random.Generator, looks: np.ndarray) -> Simulated:
    level = generator.uniform(0, math.log1p(kind.grid))  # where the grid falls between the means is chance
    cells, seeds = len(BATCHES), kind.seeds
    noise = _noise(kind.noise, generator, (cells, seeds))
    log_t = kind.means[:, None] + level + noise
    if kind.noise == "picks":
        log_t += PICK_SPREAD * generator.normal(size=(cells, 1))
    diverged = np.zeros((cells, seeds), bool)
    if kind.noise == "divergence":
        diverged = generator.uniform(size=(cells, seeds)) < _divergence(noise, np.arange(cells)[:, None])
    runs = []
    for j, batch in enumerate(BATCHES):
        budget = math.inf
        if kind.censored:
            budget = math.floor(math.exp(kind.means[j] + level + _quantile(kind, j)))
        for seed in range(seeds):
            runs.append(_observe(batch, seed, math.exp(log_t[j, seed]), budget, bool(diverged[j, seed]), looks))
    return Simulated(runs, FLOOR * math.exp(level))


def _observe(batch: int, seed: int, t: float, budget: float, diverged: bool, looks: np.ndarray) -> Run:
    if diverged:
        return Run(batch, seed, float(math.floor(t / 2)), math.inf, True)
    if t > budget:
        return Run(batch, seed, float(budget), math.inf, False)
    at = int(np.searchsorted(looks, t))
    low = float(looks[at - 1]) if at else 0.0
    return Run(batch, seed, low, float(min(looks[at], budget)), False)


def _noise(law: str, generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    if law == "weibull":
        euler = 0.5772156649015329
        return SPREAD * (np.log(generator.exponential(size=size)) + euler) / (math.pi / math.sqrt(6))
    if law == "gamma":
        draws = np.log(generator.gamma(_GAMMA_SHAPE, size=size) / _GAMMA_SHAPE)
        return draws + 0.5 / _GAMMA_SHAPE
    if law == "unequal":
        return np.geomspace(0.08, 0.25, size[0])[:, None] * generator.normal(size=size)
    return SPREAD * generator.normal(size=size)


_GAMMA_SHAPE = 45.0  # SD of log T 0.1499


def _divergence(noise: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the chance that a run diverges: slow runs do, and runs of large batch."""
    return 1 / (1 + np.exp(-(-3 + 1.2 * noise / SPREAD + 0.25 * cell)))


def _mean_of_survivors() -> np.ndarray:
    z = np.linspace(-8, 8, 4001) * SPREAD
    density = np.exp(-0.5 * (z / SPREAD) ** 2)
    kept = density * (1 - _divergence(z, np.arange(len(BATCHES))[:, None]))
    return (kept * z).sum(1) / kept.sum(1)


def _quantile(kind: Kind, cell: int) -> float:
    """Return the noise's quantile above which the budget ends, from a large sample of its own."""
    if (kind.noise, cell if kind.noise == "unequal" else 0, kind.censored) not in _CACHE:
        sample = _noise(kind.noise, np.random.default_rng(7), (len(BATCHES), 200_000))
        for j in range(len(BATCHES)):
            _CACHE[kind.noise, j, kind.censored] = float(np.quantile(sample[j], 1 - kind.censored))
    return _CACHE[kind.noise, cell if kind.noise == "unequal" else 0, kind.censored]


_CACHE: dict[tuple[str, int, float], float] = {}
