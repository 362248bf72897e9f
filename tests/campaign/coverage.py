"""The coverage table: how often do intervals hold the truth, and tests reject, on simulated studies?

    python -m tests.campaign.coverage [--studies 4000] [--seed 2026] [--jobs 1] [--write docs/validity.md]

Prints one line a kind and, with --write, puts the tables into the document between its markers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from math import log2, sqrt

from hvd_adam.study.hyperbola import hyperbolas
from hvd_adam.study.linearity import linear_up_tos, lines_fit
from hvd_adam.study.passage import Passage
from hvd_adam.study.slope import slopes
from tests.campaign.simulator import CRITICAL, Kind, Run, Simulated, studies

SEEDS = (3, 5, 10)
STUDIES, SEED, CHUNK = 4000, 2026, 250


def passages(runs: list[Run]) -> list[Passage]:
    """Return the simulator's runs as the analysis takes them."""
    return [Passage(f"s{r.batch}", r.batch, r.batch // 16, r.seed, r.low, r.high, r.diverged) for r in runs]


@dataclass(frozen=True)
class Rate:
    """How often something happened in `n` studies, in per cent, with its standard error."""

    name: str
    count: int
    n: int

    @property
    def percent(self) -> float:
        return 100 * self.count / self.n

    @property
    def error(self) -> float:
        share = self.count / self.n
        return 100 * sqrt(max(share * (1 - share), 1e-9) / self.n)

    def __str__(self) -> str:
        return f"{self.name} {self.percent:.1f} +- {self.error:.1f}"


Seen = list[list[Passage]]
Judge = Callable[[Kind, Seen, list[Simulated]], dict[str, list[bool]]]


def judge_slope(kind: Kind, seen: Seen, _: list[Simulated]) -> dict[str, list[bool]]:
    """Slope: free cell means, and a straight line where the truth is one."""
    found = slopes(seen)
    result = {
        "slope": [f.covers(kind.true_slope) for f in found],
        "open": [f.open for f in found],
        "not -1": [not f.covers(-1.0) for f in found],
    }
    if kind.shape == "line":
        result["as a line"] = [f.covers(kind.true_slope) for f in slopes(seen, shape="line")]
        result["bends"] = [test.rejects() for test in lines_fit(seen)]
    return result


def judge_range(kind: Kind, seen: Seen, _: list[Simulated]) -> dict[str, list[bool]]:
    """Linear up to."""
    found = linear_up_tos(seen)
    return {
        "off by > 1": [not abs(log2(f.estimate / kind.linear_up_to)) < 1.5 for f in found],
        "range": [f.covers(kind.linear_up_to) for f in found],
    }


def judge_hyperbola(kind: Kind, seen: Seen, truth: list[Simulated]) -> dict[str, list[bool]]:
    """B_crit and S_min, and the test of the hyperbola's fit. Without a fit there is nothing that could be wrong."""
    found = hyperbolas(seen)
    return {
        "B_crit": [f is None or f.critical.covers(CRITICAL) for f in found],
        "B_crit open": [f is None or f.critical.open for f in found],
        "S_min": [f is None or f.floor.covers(t.floor) for f, t in zip(found, truth, strict=True)],
        "no hyperbola": [f is not None and not f.reported for f in found],
    }


def judge_picks(kind: Kind, seen: Seen, _: list[Simulated]) -> dict[str, list[bool]]:
    """Slope with the picks' scatter in it, and conditional on the picks."""
    return {
        "slope": [f.covers(kind.true_slope) for f in slopes(seen, picks="shared")],
        "if conditional": [f.covers(kind.true_slope) for f in slopes(seen)],
    }


@dataclass(frozen=True)
class Row:
    kind: Kind
    judges: tuple[Judge, ...]


def table() -> dict[str, list[Row]]:
    """Return the kinds of each part of the table."""
    well = [
        Kind(shape, "normal", censored, grid, seeds)
        for shape in ("line", "curve")
        for censored in (0.0, 0.2, 0.5)
        for grid in (0.05, 0.25)
        for seeds in SEEDS
    ]
    return {
        "line": [Row(kind, (judge_slope, judge_range)) for kind in well if kind.shape == "line"],
        "curve": [Row(kind, (judge_slope, judge_range, judge_hyperbola)) for kind in well if kind.shape == "curve"],
        "power": [Row(Kind(grid=grid, slope=-0.9), (judge_slope,)) for grid in (0.05, 0.25)],
        "misspecified": [
            Row(Kind(noise=noise, censored=0.2, seeds=seeds), (judge_slope,))
            for noise in ("weibull", "gamma", "unequal")
            for seeds in SEEDS
        ]
        + [Row(Kind(noise="divergence", seeds=seeds), (judge_slope,)) for seeds in SEEDS]
        + [Row(Kind(noise="picks", seeds=seeds), (judge_picks,)) for seeds in SEEDS],
    }


def measure(row: Row, count: int = STUDIES, seed: int = SEED) -> dict[str, Rate]:
    """Return the rates of one kind."""
    total: dict[str, int] = {}
    source = studies(row.kind, count, seed)
    while chunk := list(islice(source, CHUNK)):
        seen = [passages(study.runs) for study in chunk]
        for judge in row.judges:
            for name, happened in judge(row.kind, seen, chunk).items():
                total[name] = total.get(name, 0) + sum(happened)
    return {name: Rate(name, value, count) for name, value in total.items()}


def describe(kind: Kind) -> str:
    what = kind.shape if kind.noise == "normal" else kind.noise
    if kind.slope != -1:
        what += f", slope {kind.slope:g}"
    return f"{what}, {100 * kind.censored:.0f} % censored, grid {100 * kind.grid:.0f} %, {kind.seeds} seeds"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", help="one part of the table")
    parser.add_argument("--write", help="document to put the tables into")
    options = parser.parse_args()
    parts = {name: rows for name, rows in table().items() if options.only in (None, name)}
    flat = [row for rows in parts.values() for row in rows]
    begun = time.perf_counter()
    found: dict[Kind, dict[str, Rate]] = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(measure, row, options.studies, options.seed) for row in flat]
        for row, job in zip(flat, jobs, strict=True):
            found[row.kind] = job.result()
            print(describe(row.kind), *found[row.kind].values(), sep="; ", flush=True)
    print(f"{len(flat)} kinds, {options.studies} studies each, {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
