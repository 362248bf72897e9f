"""From steps to seconds: how long a cell takes to its target, where the time goes, and how well nodes are used.

    time to target = steps to target x seconds a step
    total efficiency = algorithmic efficiency x system efficiency

Algorithmic efficiency is samples at the start of the grid over samples here; system efficiency is samples a second and
node here over those at the start; their product is node-seconds to the target at the start over those here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot, inf, isfinite, log, nan

import numpy as np
from scipy.special import stdtrit

from hvd_adam.errors import ConfigError
from hvd_adam.study.contrast import Intervals, Model
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.linearity import pooled_start
from hvd_adam.study.passage import cells
from hvd_adam.study.sample import Study, sample


@dataclass(frozen=True, slots=True)
class Timing:
    """What one run took.

    Args:
        cell, batch, seed: as in `Passage`.
        nodes: what is paid for; ranks where a rank is a node.
        seconds: a step, mean over the run, > 0.
        phases: seconds a step by phase (data, compute, waiting, ...); may be empty.
    """

    cell: str
    batch: int
    nodes: int
    seed: int
    seconds: float
    phases: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and isfinite(self.seconds) and self.nodes >= 1 and self.batch >= 1):
            raise ConfigError(
                found=f"cell {self.cell}, seed {self.seed}: {self.seconds} s a step on {self.nodes} nodes",
                why="a step takes some time on one node at least",
                cure="collect the run again from its trace",
            )


class Clock:
    """The timings of a study, cells in order of batch; log seconds are normal about a mean for each cell.

    Args:
        timings: one for each run.
        level: of every interval.

    Raises:
        ConfigError: there are none, or a cell has two node counts or batches.
    """

    def __init__(self, timings: Sequence[Timing], level: float = 0.95):
        found: dict[str, list[Timing]] = {}
        for timing in timings:
            found.setdefault(timing.cell, []).append(timing)
        if not found:
            raise ConfigError("no run has a timing", "there are no seconds to report", "hvd-adam study run STUDY.yaml")
        for name, runs in found.items():
            if len({(run.nodes, run.batch) for run in runs}) > 1:
                raise ConfigError(
                    f"cell {name} was run on {min(r.nodes for r in runs)} and on {max(r.nodes for r in runs)} nodes",
                    "seconds a step belong to one number of nodes",
                    "make ranks an axis of the grid",
                )
        self.cells = dict(sorted(found.items(), key=lambda item: (item[1][0].batch, item[1][0].nodes, item[0])))
        self.level = level
        logs = [np.log([run.seconds for run in runs]) for runs in self.cells.values()]
        self.count = np.array([len(some) for some in logs])
        self.mean = np.array([some.mean() for some in logs])
        self.df = int(self.count.sum()) - len(logs)
        square = sum(float(((some - some.mean()) ** 2).sum()) for some in logs)
        self.sigma = float(np.sqrt(square / self.df)) if self.df else nan
        self.nodes = {name: runs[0].nodes for name, runs in self.cells.items()}

    def intervals(self, contrasts: np.ndarray) -> Intervals:
        """Return estimates and Student's intervals of `contrasts` @ mean log seconds, contrasts (Q, k).

        Nothing is censored here, and the profile likelihood of `contrast` is Student's interval then. Open where no
        cell has two runs, but for a contrast of nothing, which is 0.
        """
        value = contrasts @ self.mean
        half = np.full(len(value), inf)
        if self.df:
            half = stdtrit(self.df, 0.5 + self.level / 2) * self.sigma * np.sqrt(contrasts**2 @ (1 / self.count))
        half = np.where((contrasts != 0).any(1), half, 0.0)
        return Intervals(value[None], (value - half)[None], (value + half)[None])

    def seconds_a_step(self) -> dict[str, Estimate]:
        """Return the geometric mean of seconds a step of each cell; open, "single run", where no cell has two."""
        found = self.intervals(np.eye(len(self.cells)))
        single = self.df < 1
        text = "seconds a step, " + (
            "single run" if single else "geometric mean; Student's t, one spread for all cells"
        )
        return {
            name: found.factor(0, j, self.level, len(runs), text) for j, (name, runs) in enumerate(self.cells.items())
        }

    def shares(self) -> dict[str, dict[str, float]]:
        """Return the share of each phase in a step, by cell; the mean over its runs, phases of no time left out."""
        result = {}
        for name, runs in self.cells.items():
            total = {phase: sum(run.phases.get(phase, 0.0) for run in runs) for run in runs for phase in run.phases}
            whole = sum(total.values())
            result[name] = {phase: value / whole for phase, value in total.items() if value > 0}
        return result


def product(a: Estimate, b: Estimate, text: str) -> Estimate:
    """Return a x b of independent estimates: half widths add in squares on the log scale (MOVER, Zou and Donner 2008).

    Where one factor is open for want of a second run it is taken as exact, and the method says so; an end that the data
    leave open stays open.
    """
    value = a.estimate * b.estimate
    method = text
    ends = []
    for sign, x, y in ((-1, a.low, b.low), (1, a.high, b.high)):
        steps = []
        for factor, end in ((a, x), (b, y)):
            if factor.open and "single run" in factor.method:
                method = text + "; one factor timed once, taken as exact"
                steps.append(0.0)
            elif end in (0.0, inf) or not isfinite(end):
                steps.append(inf)
            else:
                steps.append(abs(log(end / factor.estimate)))
        ends.append(value * np.exp(sign * hypot(*steps)))
    return Estimate(value, float(ends[0]), float(ends[1]), a.level, min(a.n, b.n), method)


def time_to_target(study: Study, clock: Clock) -> dict[str, Estimate]:
    """Return seconds to the target of each cell that has timings, steps and seconds a step both with their error."""
    counted = cells(study)
    found = Model(sample([study])).intervals(np.eye(len(counted)), clock.level)
    pace = clock.seconds_a_step()
    result = {}
    for j, cell in enumerate(counted):
        if cell.name in pace:
            steps = found.factor(0, j, clock.level, cell.reached + cell.censored, "steps to target")
            result[cell.name] = product(steps, pace[cell.name], "steps to target x seconds a step")
    return result


@dataclass(frozen=True, slots=True)
class Efficiency:
    """How well a cell uses its nodes, against the pooled start of the grid (`linearity.linear_up_to`); 1 is as well.

    Args:
        nodes: of the cell.
        algorithmic: samples to the target at the start over those here.
        system: samples a second and node here over those at the start.
        total: their product.
    """

    nodes: int
    algorithmic: Estimate
    system: Estimate
    total: Estimate


def efficiencies(study: Study, clock: Clock) -> dict[str, Efficiency]:
    """Return the efficiencies of each cell that has steps and seconds."""
    data = sample([study])
    counted = cells(study)
    model = Model(data)
    names = list(clock.cells)
    start = [j for j in pooled_start(model.known[0]) if counted[j].name in clock.cells]
    if not start:
        return {}
    ours = [j for j, cell in enumerate(counted) if cell.name in clock.cells]
    samples = _against(len(counted), ours, start)
    there = [names.index(counted[j].name) for j in start]
    pace = _against(len(names), [names.index(counted[j].name) for j in ours], there)
    steps = model.intervals(-samples, clock.level)  # start minus cell
    seconds = clock.intervals(-pace)
    log_s = -(samples @ data.log_batch)
    rate = np.log([runs[0].batch / runs[0].nodes for runs in clock.cells.values()])
    log_rate = pace @ rate
    result = {}
    single = "; single run" if clock.df < 1 else ""
    for i, j in enumerate(ours):
        name = counted[j].name
        n = counted[j].runs
        algorithmic = steps.factor(
            0, i, clock.level, n, "samples at the pooled start over samples here", float(log_s[i])
        )
        text = "samples a second and node here over those at the pooled start" + single
        system = seconds.factor(0, i, clock.level, len(clock.cells[name]), text, float(log_rate[i]))
        total = product(algorithmic, system, "algorithmic x system efficiency")
        result[name] = Efficiency(clock.nodes[name], algorithmic, system, total)
    return result


def _against(size: int, which: list[int], start: list[int]) -> np.ndarray:
    contrasts = np.eye(size)[which]
    contrasts[:, start] -= 1 / len(start)
    return contrasts
