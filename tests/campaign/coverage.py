"""The coverage table: how often do intervals hold the truth, and tests reject, on simulated studies?

    python -m tests.campaign.coverage [--studies 4000] [--seed 2026] [--jobs 1] [--write docs/validity.md]

Prints one line a kind and, with --write, puts the tables into the document between its markers.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from math import log2, sqrt
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from hvd_adam.study.compare import compare
from hvd_adam.study.contrast import Model
from hvd_adam.study.goodness import goodness
from hvd_adam.study.horizon import Crossing, Endpoint, crossing, horizon_linear_up_to, horizon_slope
from hvd_adam.study.hyperbola import hyperbola, hyperbolas
from hvd_adam.study.hyperbola_of_picks import hyperbola_with_picks
from hvd_adam.study.linearity import linear_up_tos, lines_fit
from hvd_adam.study.passage import Passage
from hvd_adam.study.picks import linearity_with_picks
from hvd_adam.study.sample import sample
from hvd_adam.study.slope import slope, slopes, weights
from hvd_adam.study.tuning import pick, repeated
from tests.campaign.simulator import HORIZONS, THEORY, Kind, Run, Simulated, endings, studies, tuned, twins

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


Tables = dict[str, list[tuple[Kind, dict[str, Rate]]]]
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
        "B_crit": [f is None or f.critical.covers(kind.critical) for f in found],
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


def judge_tuned(kind: Kind, count: int, seed: int) -> dict[str, list[bool]]:
    """Slope and range of studies that pick their learning rates, as the report makes them: with and without picks."""
    result: defaultdict[str, list[bool]] = defaultdict(list)
    for made in tuned(kind, count, seed):
        added, study = {}, []
        for batch, trials in made.trials.items():
            seen = {rate: passages(runs) for rate, runs in trials.items()}
            study += passages(made.fresh[batch][pick(seen).lr])
            added[f"s{batch}"] = repeated(seen).estimate
        found = linearity_with_picks(study, added)
        result["slope"].append(found.slope.covers(made.slope))
        result["if conditional"].append(slope(study).covers(made.slope))
        result["off by > 1"].append(not abs(log2(found.up_to.estimate / kind.linear_up_to)) < 1.5)
        result["range"].append(found.up_to.covers(kind.linear_up_to))
        if kind.shape == "curve":
            curve, alone = hyperbola_with_picks(study, added), hyperbola(study)
            result["B_crit"].append(curve.critical.covers(kind.critical))
            result["B_crit, fixed"].append(alone.critical.covers(kind.critical))
            result["no hyperbola"].append(curve.fits.rejects())
            result["fixed"].append(alone.fits.rejects())
    return dict(result)


def judge_theory(kind: Kind, count: int, seed: int) -> dict[str, list[bool]]:
    """Theory mode: T, slope and range; the truth is what all runs of all studies say together."""
    ends = endings(count, kind.seeds, seed)

    def inverted(chosen: slice) -> dict[int, Crossing]:
        seen = {key: criteria[chosen].ravel() for key, criteria in ends.items()}
        return {
            s: crossing([Endpoint(t, float(v), k) for t in HORIZONS for k, v in enumerate(seen[s, t])], 3.0)
            for s in THEORY
        }

    truth = inverted(slice(None))
    true_slope, true_end = horizon_slope(truth).estimate, horizon_linear_up_to(truth)
    assert true_end is not None
    result: defaultdict[str, list[bool]] = defaultdict(list)
    for i in range(count):
        found = inverted(slice(i, i + 1))
        end = horizon_linear_up_to(found)
        result["slope"].append(horizon_slope(found).covers(true_slope))
        result["T"] += [found[s].steps.covers(truth[s].steps.estimate) for s in THEORY]
        result["off by > 1"].append(end is None or not abs(log2(end.estimate / true_end.estimate)) < 1.5)
        result["range"].append(end is None or end.covers(true_end.estimate))
    return dict(result)


def judge_fit(kind: Kind, seen: Seen, _: list[Simulated]) -> dict[str, list[bool]]:
    """The check of the noise, each test at 5 %."""
    found = [goodness(study) for study in seen]
    return {"not normal": [g.normal < 0.05 for g in found], "unequal": [g.equal < 0.05 for g in found]}


def judge_threshold(kind: Kind, seen: Seen, _: list[Simulated]) -> dict[str, list[bool]]:
    """The slope's interval if a censored run counted as 0, 1/2 or 1 run, and with the threshold of chi-squared."""
    data = sample(seen)
    w, truth = weights(data.batches)[None], np.array([kind.true_slope])
    result = {}
    for name, share in (("as 0", 0.0), ("as 1/2", 0.5), ("as 1", 1.0)):
        model = Model(data)
        model.n = model.uncensored + share * (model.runs - model.uncensored)
        model.df = model.n - model.p
        t = np.abs(model.t(w, truth)[:, 0])
        result[name] = list(t <= stdtrit(np.maximum(model.df, 1), 0.975))
    ratio = model.n * np.log1p(t**2 / model.df)
    result["chi-squared"] = list(ratio <= 3.841459)
    return result


@dataclass(frozen=True)
class Row:
    kind: Kind
    judges: tuple[Judge, ...] = ()  # none: two studies are compared


def table() -> dict[str, list[Row]]:
    """Return the kinds of each part of the table."""
    well = [
        Kind(shape, "normal", censored, grid, seeds)
        for shape in ("line", "curve")
        for censored in (0.0, 0.2, 0.5)
        for grid in (0.05, 0.25)
        for seeds in SEEDS
    ]
    shared = [Kind(noise="picks", seeds=seeds) for seeds in SEEDS]
    wrong = [
        Kind(noise=noise, censored=0.2, seeds=seeds) for noise in ("weibull", "gamma", "unequal") for seeds in SEEDS
    ]
    wrong += [Kind(noise="divergence", seeds=seeds) for seeds in SEEDS]
    other = [Kind("curve", censored=c, critical=b) for b in (32.0, 1024.0) for c in (0.0, 0.2)]
    wide = [Kind(spread=spread, grid=grid, censored=0.2) for spread, grid in ((0.4, 0.05), (0.05, 0.25))]
    checked = [Kind(), Kind(grid=0.25, censored=0.2), Kind(seeds=10), *(k for k in wrong if k.seeds == 10)]
    pairs = [
        Kind(factor=1.1, censored=c, grid=g, seeds=m) for c, g in ((0.0, 0.05), (0.0, 0.25), (0.2, 0.05)) for m in SEEDS
    ]
    pairs += [Kind(grid=grid) for grid in (0.05, 0.25)]
    return {
        "line": [Row(kind, (judge_slope, judge_range)) for kind in well if kind.shape == "line"],
        "curve": [Row(kind, (judge_slope, judge_range, judge_hyperbola)) for kind in well if kind.shape == "curve"],
        "power": [Row(Kind(grid=grid, slope=-0.9), (judge_slope,)) for grid in (0.05, 0.25)],
        "misspecified": [Row(kind, (judge_slope,)) for kind in wrong],
        "picks": [Row(kind, (judge_picks,)) for kind in shared],
        "tuned": [
            Row(Kind(shape, seeds=seeds, tuning=tuning))
            for shape in ("line", "curve")
            for tuning, seeds in ((2, 5), (3, 5), (6, 5), (3, 10))
        ],
        "other": [Row(kind, (judge_slope, judge_range, judge_hyperbola)) for kind in other]
        + [Row(kind, (judge_slope,)) for kind in wide],
        "threshold": [Row(Kind(censored=c, seeds=m), (judge_threshold,)) for c in (0.0, 0.2, 0.5) for m in SEEDS],
        "fit": [Row(kind, (judge_fit,)) for kind in checked],
        "compare": [Row(kind) for kind in pairs],
        "theory": [Row(Kind(noise="theory", grid=0.0, seeds=seeds)) for seeds in (3, 6, 12)],
    }


def measure(row: Row, count: int = STUDIES, seed: int = SEED) -> dict[str, Rate]:
    """Return the rates of one kind; fewer studies where each is analysed alone (1/4), tuned (1/8), stepped (1/10)."""
    if row.kind.noise == "theory":
        return {name: Rate(name, sum(h), len(h)) for name, h in judge_theory(row.kind, count // 10, seed).items()}
    if not row.judges and not row.kind.tuning:
        return _compared(row.kind, count // 4, seed)
    if row.kind.tuning:
        found = judge_tuned(row.kind, count // 8, seed)
        return {name: Rate(name, sum(held), len(held)) for name, held in found.items()}
    if judge_fit in row.judges:
        count //= 4
    total: dict[str, int] = {}
    source = studies(row.kind, count, seed)
    while chunk := list(islice(source, CHUNK)):
        seen = [passages(study.runs) for study in chunk]
        for judge in row.judges:
            for name, happened in judge(row.kind, seen, chunk).items():
                total[name] = total.get(name, 0) + sum(happened)
    return {name: Rate(name, value, count) for name, value in total.items()}


def _compared(kind: Kind, count: int, seed: int) -> dict[str, Rate]:
    total = {"ratio": 0, "differs": 0}
    for a, b in twins(kind, count, seed):
        found = compare(passages(a.runs), passages(b.runs))
        total["ratio"] += found.overall.covers(kind.factor)
        total["differs"] += found.outcome not in ("no difference shown", "not enough evidence")
    return {name: Rate(name, value, count) for name, value in total.items()}


def describe(kind: Kind) -> str:
    """Return the kind in words; what is as usual is left out."""
    usual = Kind()
    what = [kind.shape if kind.noise == "normal" else kind.noise]
    for name, text in (
        ("slope", "slope {:g}"),
        ("critical", "B_crit {:g}"),
        ("spread", "spread {:g}"),
        ("factor", "x {:g}"),
        ("tuning", "{} tuning seeds"),
    ):
        if getattr(kind, name) != getattr(usual, name):
            what.append(text.format(getattr(kind, name)))
    return ", ".join(what)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", help="one part of the table")
    parser.add_argument("--write", help="document to put the tables into")
    options = parser.parse_args()
    begun = time.perf_counter()
    found = run(options.studies, options.seed, options.jobs, options.only)
    seconds = time.perf_counter() - begun
    print(
        f"{sum(map(len, found.values()))} kinds, {options.studies} studies each, {seconds:.0f} s, {options.jobs} job(s)"
    )
    if options.write:
        write(Path(options.write), found, options.studies, options.seed)


def run(count: int, seed: int, jobs: int = 1, only: str | None = None) -> Tables:
    """Return the rates of every kind, by part; prints each as it comes."""
    parts = {name: rows for name, rows in table().items() if only in (None, name)}
    result: Tables = {}
    with ProcessPoolExecutor(jobs) as pool:
        work = {name: [pool.submit(measure, row, count, seed) for row in rows] for name, rows in parts.items()}
        for name, rows in parts.items():
            result[name] = []
            for row, job in zip(rows, work[name], strict=True):
                result[name].append((row.kind, job.result()))
                print(name, *_place(row.kind), *(str(rate) for rate in job.result().values()), sep="; ", flush=True)
    return result


def _place(kind: Kind) -> list[str]:
    return [describe(kind), f"{100 * kind.censored:.0f} %", f"{100 * kind.grid:.0f} %", str(kind.seeds)]


def tables(found: Tables) -> dict[str, str]:
    """Return a Markdown table for each part."""
    result = {}
    for name, rows in found.items():
        columns = list(dict.fromkeys(name for _, rates in rows for name in rates))
        lines = ["| kind | censored | grid | seeds | " + " | ".join(columns) + " |", "|---" * (4 + len(columns)) + "|"]
        for kind, rates in rows:
            cells = [f"{rates[c].percent:.1f}" if c in rates else "" for c in columns]
            lines.append("| " + " | ".join(_place(kind) + cells) + " |")
        result[name] = "\n".join(lines)
    return result


def write(path: Path, found: Tables, count: int, seed: int) -> None:
    """Put the tables into a document, between <!-- NAME --> and <!-- end -->; what else it says is left alone.

    Parts that were not run keep what they have.
    """
    text = path.read_text()
    for name, body in tables(found).items():
        head = f"`python -m tests.campaign.coverage --studies {count} --seed {seed} --only {name}`"
        n = next(iter(found[name][0][1].values())).n
        block = f"<!-- {name} -->\n{head}; per cent of {n:,} studies\n\n{body}\n<!-- end -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- end -->", lambda _, block=block: block, text, flags=re.S)
    path.write_text(text)


if __name__ == "__main__":
    main()
