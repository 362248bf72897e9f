"""Seconds a step at node counts that were not run: a latency-bandwidth model, fitted on those that were.

    t(n, b) = c_0 + c_1 b + c_2 2 (n - 1) + c_3 2 (n - 1) / n

b samples a node: c_0 what every step costs, c_1 the compute of a sample, c_2 the latency of one of the 2 (n - 1)
messages of a ring, c_3 the transfer of the gradients, of which a ring sends 2 (n - 1) / n. No coefficient is negative.

Two node counts do not tell c_2 from c_3, for which more nodes cost very different times: then the model is fitted with
each of the two at 0, the prediction is the mean of both, and its interval holds those of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from hvd_adam.errors import ConfigError
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.seconds import Timing

FARTHEST = 4  # times the largest node count that was run
_DRAWS = 400
_EVERY, _ONE_OF_TWO = [[0, 1, 2, 3]], [[0, 1, 2], [0, 1, 3]]  # coefficients that are not 0


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds a step that were not measured.

    Args:
        nodes: number of nodes.
        seconds: a step; the interval is the bootstrap's over runs and takes the model for true.
        waiting: share of the step that is communication, by the model.
        extrapolated: whether `nodes` lies outside the node counts that were run.
    """

    nodes: int
    seconds: Estimate
    waiting: float
    extrapolated: bool


class StepTime:
    """The fitted model.

    Args:
        timings: runs on two node counts at least.
        seed: of the bootstrap.

    Attributes:
        coefficients: c_0 ... c_3, seconds; the mean of both fits where there are two.
        error: largest relative error at a measured cell.

    Raises:
        ConfigError: fewer than two node counts.
    """

    def __init__(self, timings: Sequence[Timing], level: float = 0.95, seed: int = 0):
        cells: dict[tuple[int, int], list[float]] = {}
        for timing in timings:
            cells.setdefault((timing.nodes, timing.batch), []).append(timing.seconds)
        self.counts = sorted({nodes for nodes, _ in cells})
        if len(self.counts) < 2:
            raise ConfigError(
                f"seconds a step on {self.counts[0] if self.counts else 'no'} node(s) only",
                "one node count says nothing of what more nodes cost",
                "run the study on two node counts at least",
            )
        self.level, self.n = level, len(timings)
        self._x = np.array([_features(nodes, batch / nodes) for nodes, batch in cells])
        self._kinds = _EVERY if len(self.counts) > 2 else _ONE_OF_TWO
        runs = [np.array(seconds) for seconds in cells.values()]
        means = np.array([seconds.mean() for seconds in runs])
        self.coefficients = np.mean([_solve(self._x, means, kind) for kind in self._kinds], axis=0)
        self.error = float(np.abs(self._x @ self.coefficients / means - 1).max())
        rng = np.random.default_rng(seed)
        self.single = all(len(seconds) == 1 for seconds in runs)
        drawn = [_resampled(runs, rng) for _ in range(0 if self.single else _DRAWS)]
        self._draws = [np.array([_solve(self._x, seconds, kind) for seconds in drawn]) for kind in self._kinds]

    def __call__(self, nodes: int, batch: int) -> Prediction:
        """Return seconds a step of a global batch on so many nodes.

        Raises:
            ConfigError: more than four times the largest node count that was run, or fewer than 1.
        """
        if not 1 <= nodes <= FARTHEST * self.counts[-1]:
            raise ConfigError(
                f"{nodes} nodes, and {self.counts[-1]} were run at most",
                f"the model is not trusted beyond {FARTHEST} times what it was fitted on",
                f"ask for at most {FARTHEST * self.counts[-1]} nodes, or run on more",
            )
        x = np.array(_features(nodes, batch / nodes))
        value = float(x @ self.coefficients)
        extrapolated = not self.counts[0] <= nodes <= self.counts[-1]
        text = f"latency-bandwidth model on {len(self._x)} cells, largest error {100 * self.error:.0f} %"
        if self.single:
            low, high, text = -np.inf, np.inf, text + "; single run"
        else:
            tail = 50 * (1 - self.level)
            ends = np.array([np.percentile(draws @ x, [tail, 100 - tail]) for draws in self._draws])
            low, high = ends[:, 0].min(), ends[:, 1].max()
            text += f"; bootstrap over runs, {_DRAWS} draws"
        if len(self._kinds) > 1:
            text += "; two node counts do not tell latency from bandwidth, so either"
        seconds = Estimate(value, float(low), float(high), self.level, self.n, text + "; extrapolated" * extrapolated)
        waiting = float(x[2:] @ self.coefficients[2:]) / value if value else 0.0
        return Prediction(nodes, seconds, waiting, extrapolated)


def _features(nodes: int, samples: float) -> tuple[float, float, float, float]:
    return 1.0, samples, 2.0 * (nodes - 1), 2.0 * (nodes - 1) / nodes


def _solve(x: np.ndarray, seconds: np.ndarray, kind: list[int]) -> np.ndarray:
    # Relative errors: a step of 10 s must not drown one of 10 ms. Columns scaled, so that units do not matter.
    scaled = x[:, kind] / seconds[:, None]
    norm = np.linalg.norm(scaled, axis=0)
    norm[norm == 0] = 1
    found = np.zeros(x.shape[1])
    found[kind] = nnls(scaled / norm, np.ones(len(x)))[0] / norm
    return found


def _resampled(runs: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    # Of m runs the bootstrap's spread is too small by sqrt((m - 1) / m).
    means = []
    for seconds in runs:
        m, mean = len(seconds), seconds.mean()
        grown = (m / (m - 1)) ** 0.5 if m > 1 else 1.0
        means.append(max(mean + grown * (seconds[rng.integers(m, size=m)].mean() - mean), 0.1 * mean))
    return np.array(means)
