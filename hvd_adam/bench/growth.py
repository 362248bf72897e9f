"""How a step of ours grows with ranks, with workers a rank, and with parameters: seconds, and exponents of growth."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hvd_adam.bench.crews import Crews, Job
from hvd_adam.bench.ratios import Ratio, median
from hvd_adam.bench.surroundings import IMPORTS, free_memory, lacking
from hvd_adam.bench.workloads import WORKLOADS, numbers, workload
from hvd_adam.terminal import plural

TURN = 0.3  # seconds of a turn, about
LEAST = 10**6  # parameters from which on the exponent against them is taken: below, latency rules


@dataclass(frozen=True)
class Point:
    """Seconds a step, a value a round, of a model on so many ranks, each of which plays so many workers."""

    model: str
    ranks: int
    workers: int
    seconds: tuple[float, ...] = ()

    def after(self, seconds: float) -> Point:
        """The point with one more round."""
        return replace(self, seconds=(*self.seconds, seconds))

    @property
    def parameters(self) -> int:
        """Numbers in the model."""
        return numbers(self.model)

    @property
    def samples(self) -> int:
        """Of all workers of a step together."""
        return self.ranks * self.workers * workload(self.model).samples


@dataclass(frozen=True)
class Exponent:
    """Of seconds a step ~ x**exponent, where only x moves: what x is, where it was taken, and between which values."""

    against: str
    of: str
    ends: tuple[float, float]
    value: Ratio


@dataclass
class Growth:
    """All points; `left_out`: model -> why."""

    points: list[Point] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def exponents(self) -> list[Exponent]:
        """Of every line of points on which one thing moves: parameters, workers a rank, and ranks."""
        sized = [p for p in self.points if p.model not in WORKLOADS and p.parameters >= LEAST]
        named = [p for p in self.points if p.model in WORKLOADS]
        found = []
        for ranks in sorted({p.ranks for p in sized}):
            line = [p for p in sized if (p.ranks, p.workers) == (ranks, 1)]
            found += _exponent("parameters", f"synthetic, {plural(ranks, 'rank')}", line, lambda p: p.parameters)
        for model, ranks in dict.fromkeys((p.model, p.ranks) for p in named):
            line = [p for p in named if (p.model, p.ranks) == (model, ranks)]
            found += _exponent("workers a rank", f"{model}, {plural(ranks, 'rank')}", line, lambda p: p.workers)
        for model, workers in dict.fromkeys((p.model, p.workers) for p in named):
            line = [p for p in named if (p.model, p.workers) == (model, workers)]
            found += _exponent("ranks", f"{model}, {plural(workers, 'worker')} a rank", line, lambda p: p.ranks)
        return found

    def to_plain(self) -> dict[str, Any]:
        """JSON's kinds only."""
        points = [
            {"model": p.model, "ranks": p.ranks, "workers": p.workers, "samples": p.samples,
             "parameters": p.parameters, "seconds": list(p.seconds)}
            for p in self.points
        ]  # fmt: skip
        return {"points": points, "left_out": self.left_out}


def growth_of(plain: dict[str, Any]) -> Growth:
    """What `to_plain` has written."""
    points = [Point(p["model"], p["ranks"], p["workers"], tuple(p["seconds"])) for p in plain["points"]]
    return Growth(points, dict(plain["left_out"]))


def slope(x: Sequence[float], seconds: Sequence[Sequence[float]]) -> Ratio:
    """Return the exponent of seconds ~ x**exponent: least squares on logarithms, round by round, and their median.

    Args:
        x: at least two different values, > 0.
        seconds: for each x, a value a round.
    """
    slopes = np.polyfit(np.log(x), np.log(np.asarray(seconds, dtype=float)), 1)[0]
    return median(np.atleast_1d(slopes).tolist())


def _exponent(against: str, of: str, line: list[Point], x: Callable[[Point], float]) -> list[Exponent]:
    values = [float(x(p)) for p in line]
    if len(set(values)) < 2:
        return []
    return [Exponent(against, of, (min(values), max(values)), slope(values, [p.seconds for p in line]))]


def measure(
    models: Sequence[str],
    sizes: Sequence[str],
    ranks: Sequence[int],
    workers: Sequence[int],
    rounds: int,
    said: Callable[[str], None] = lambda _: None,
    kept: Callable[[Growth], None] = lambda _: None,
) -> Growth:
    """Times steps of ours; models on all ranks and workers take turns in random order, and so do sizes.

    Args:
        models: on each number of ranks, with each number of workers a rank.
        sizes: parameters without a model ("1e6"), on the most ranks, with one worker a rank.
        ranks, workers: numbers of them.
        rounds: turns of each.
        said, kept: see `step.compare`.
    """
    found = Growth()
    pairs = [(model, n) for model in models for n in ranks]
    _take(found, pairs, workers, rounds, said, kept)
    _take(found, [(size, max(ranks)) for size in sizes], (1,), rounds, said, kept)
    return found


def _take(
    found: Growth,
    pairs: Sequence[tuple[str, int]],
    workers: Sequence[int],
    rounds: int,
    said: Callable[[str], None],
    kept: Callable[[Growth], None],
) -> None:
    room, jobs = free_memory(), {}
    for model, ranks in pairs:
        needed = ranks * (IMPORTS + 20 * numbers(model))
        if why := lacking(needed, room):
            found.left_out[model] = why
            said(f"{model}: left out, {why}")
            continue
        room -= needed
        name = f"{model} on {ranks}"
        jobs[name] = (model, ranks, Job(name, ranks, {"build": "workers", "model": model}))
    if not jobs:
        kept(found)
        return
    said(f"{len(jobs)} jobs start, one after the other: {', '.join(jobs)}")
    with Crews([job for _, _, job in jobs.values()]) as crews:
        steps = {many: crews.calibrate_each(TURN, 300, many) for many in workers}
        points = {(many, name): Point(model, n, many) for many in workers for name, (model, n, _) in jobs.items()}
        before, order = found.points, random.Random(0)
        for number in range(rounds):
            for many in order.sample(list(workers), len(workers)):
                for name, seconds in next(crews.rounds(1, steps[many], many)).items():
                    points[many, name] = points[many, name].after(seconds)
            found.points = [*before, *points.values()]
            kept(found)
            said(f"round {number + 1} of {rounds}")


def table(found: Growth) -> Any:
    """A rich table: exponents first, with what they were taken from."""
    from rich.table import Table

    shown = Table(title="Seconds a step ~ x ** exponent", title_justify="left", box=None)
    shown.add_column("exponent", justify="right")
    for name in ("x", "from", "to", "of"):
        shown.add_column(name)
    for one in found.exponents():
        shown.add_row(str(one.value), one.against, f"{one.ends[0]:,.0f}", f"{one.ends[1]:,.0f}", one.of)
    return shown
