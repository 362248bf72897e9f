"""Reddi et al. 2018 (arXiv 1904.09237): Adam goes to the worst point of [-1, 1], other members to the best.

f = 1010 x with probability 0.01, else -10 x; optimum -1; x_1 = 0, alpha_t = .5/sqrt(t), beta .9, theta .99, T = 1e7.
And their theorem 1, which has no noise: C x every third step, else -x, beta 0, theta = 1/(1 + C^2), C = 4.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hvd_adam import algorithms
from hvd_adam.algorithms import Algorithm
from hvd_adam.reproduce.pictures import COLOURS, Curve, Panel, draw
from hvd_adam.reproduce.report import NO, UNDECIDED, YES, Report, Statement, Table, share, share_text
from hvd_adam.schedules import Constant, PolynomialTheta, Power
from hvd_adam.theory.condition import check_algorithm
from hvd_adam.theory.loops import run
from hvd_adam.theory.problems import Reddi, ReddiCycle

BATCHES = (1, 16, 32)
BANDS = ("Adam", "AMSGrad")  # eight bands in a panel hide each other
C = 4.0


def members() -> dict[str, Algorithm]:
    """The paper's members with alpha_t = .5/sqrt(t); 1 - 1/t is clamped before K = 2: theta_1 = 0 breaks clause 2."""
    late = PolynomialTheta(1.0, 1.0, 2)
    adam = Algorithm("adam", Power(0.5, 0.5), Constant(0.9), Constant(0.99), v0=1e-8)
    found = {
        "Adam": adam,
        "Adam, bias correction": replace(adam, v0=0.0, bias_correction=True),
        "AMSGrad": replace(adam, amsgrad=True),
        "AdaGrad, K = 2": replace(algorithms.adagrad(0.5), theta=late),
        "AdaEMA, K = 2": replace(algorithms.adaema(0.5), theta=late),
        "RMSProp 1 - .9/t": algorithms.rmsprop(0.5),
        "path r = .5": algorithms.path(0.5, lr=0.5, theta=0.99),
        "path r = .25": algorithms.path(0.25, lr=0.5, theta=0.99),
    }
    return found


def reproduce(folder: Path, quick: bool, command: str) -> Report:
    """Runs all members at each batch size, and the noiseless cycle."""
    seeds, steps = range(8 if quick else 16), 200_000 if quick else 10_000_000
    at = np.unique(np.geomspace(10, steps, 40).astype(int)).tolist()
    paths = {(label, batch): run(Reddi(), member, steps, seeds, batch=batch, at=at).x[..., 0]
             for label, member in members().items() for batch in BATCHES}  # fmt: skip
    cycle = {
        label: run(ReddiCycle(C), member, steps, [0], at=at).x[..., 0] for label, member in _cycle_members().items()
    }
    report = Report("reddi", "Reddi et al.: where Adam diverges", command, quick, __doc__ or "")
    ends = {key: x[-1] for key, x in paths.items()}
    report.statements = [_diverges(ends, steps), *_converge(ends, steps), _batches(ends, steps), _cycle(cycle, steps)]
    report.tables = [_table(ends, len(seeds), steps)]
    draw(_panels(at, paths, cycle), folder / "reddi.svg", columns=2)
    report.pictures = [
        (
            "reddi.svg",
            "x_t, median over seeds; for Adam and AMSGrad a band from lowest to highest seed. The optimum is -1.",
        )
    ]
    report.data = {
        "steps": steps,
        "ends": {f"{label}, batch {batch}": x.round(6).tolist() for (label, batch), x in ends.items()},
        "cycle": {label: float(x[-1, 0]) for label, x in cycle.items()},
    }
    return report


def _cycle_members() -> dict[str, Algorithm]:
    # their alpha < sqrt(1 - theta)
    adam = Algorithm("adam", Power(0.5, 0.5), Constant(0.0), Constant(1 / (1 + C * C)), v0=1e-8)
    return {
        "Adam": adam,
        "AMSGrad": replace(adam, amsgrad=True),
        "AdaGrad, K = 2": members()["AdaGrad, K = 2"],
        "path r = .5": algorithms.path(0.5, lr=0.5, beta=0.0, theta=1 / (1 + C * C)),
    }


def _near(x: np.ndarray, place: float) -> int:
    return int(np.sum(np.abs(x - place) <= 0.1))


def _diverges(ends: dict[Any, np.ndarray], steps: int) -> Statement:
    x = ends["Adam", 1]
    near, n = _near(x, 1.0), len(x)
    low = share(near, n)[1]
    return Statement(
        "Adam goes to +1, the worst point, with one sample a step",
        f"within 0.1 of +1: {near} of {n}, {share_text(near, n)}; "
        f"with bias correction {_near(ends['Adam, bias correction', 1], 1.0)} of {n}",
        f"{n} seeds, T = {steps:,}",
        YES if low > 0.5 else NO if near < n / 2 else UNDECIDED,
        "agrees: more than half of the seeds (exact 95 % interval above 1/2)",
    )


def _converge(ends: dict[Any, np.ndarray], steps: int) -> list[Statement]:
    """AMSGrad, and the members that pass the check."""
    found = []
    for label, member in members().items():
        verdict = check_algorithm(member, steps)
        if not verdict.holds and label != "AMSGrad":
            continue
        x = ends[label, 1]
        near, n = _near(x, -1.0), len(x)
        low = share(near, n)[1]
        passes = f" (it passes the check: rate {verdict.rate})" if verdict.holds else ""
        why = (
            "The condition is about the limit: at this T the rate has come down little, and the run is still far away."
        )
        found.append(
            Statement(
                f"{label} goes to -1, the optimum, with one sample a step{passes}",
                f"within 0.1 of -1: {near} of {n}, {share_text(near, n)}; x from {x.min():.3f} to {x.max():.3f}",
                f"{n} seeds, T = {steps:,}",
                YES if low > 0.5 else NO if near < n / 2 else UNDECIDED,
                "agrees: more than half of the seeds (exact 95 % interval above 1/2)",
                why if verdict.holds and low <= 0.5 else "",
            )
        )
    return found


def _batches(ends: dict[Any, np.ndarray], steps: int) -> Statement:
    n, last = len(ends["Adam", 1]), BATCHES[-1]
    said = [
        f"batch {b}: within 0.1 of -1 {_near(ends['Adam', b], -1.0)}, of +1 {_near(ends['Adam', b], 1.0)} of {n}, "
        f"mean x {ends['Adam', b].mean():.3f}"
        for b in BATCHES
    ]
    near = _near(ends["Adam", last], -1.0)
    low = share(near, n)[1]
    return Statement(
        f"a batch that is large enough turns Adam round: -1 with {last} samples a step",
        "; ".join(said),
        f"{n} seeds, T = {steps:,}",
        YES if low > 0.5 else NO if near < n / 2 else UNDECIDED,
        f"agrees: with {last} samples more than half of the seeds within 0.1 of -1 (exact 95 % interval above 1/2)",
        f"The rare sample is in {1 - 0.99**16:.0%} of the batches of 16, and in {1 - 0.99**32:.0%} of those of 32.",
    )


def _cycle(cycle: dict[str, np.ndarray], steps: int) -> Statement:
    ends = {label: float(x[-1, 0]) for label, x in cycle.items()}
    right = ends["Adam"] > 0.9 and all(x < -0.9 for label, x in ends.items() if label != "Adam")
    return Statement(
        f"without noise, C x / -x / -x with C = {C:g}: Adam to +1, AMSGrad and passing members to -1 (their theorem 1)",
        ", ".join(f"{label} {x:.3f}" for label, x in ends.items()),
        f"deterministic, T = {steps:,}",
        YES if right else NO,
        "agrees: Adam ends above 0.9, the others below -0.9",
    )


def _table(ends: dict[Any, np.ndarray], n: int, steps: int) -> Table:
    rows = [
        [
            label,
            *(
                f"{_near(ends[label, b], -1.0)} / {_near(ends[label, b], 1.0)} / {ends[label, b].mean():.3f}"
                for b in BATCHES
            ),
        ]
        for label in members()
    ]
    title = f"Seeds of {n} within 0.1 of -1 / within 0.1 of +1 / mean x after {steps:,} steps"
    return Table(title, ["member", *(f"batch {batch}" for batch in BATCHES)], rows)


def _panels(at: list[int], paths: dict[Any, np.ndarray], cycle: dict[str, np.ndarray]) -> list[Panel]:
    colours = dict(zip(members(), COLOURS, strict=False))  # a member keeps its own in every panel

    def curve(label: str, x: np.ndarray) -> Curve:
        middle, low, high = (values.tolist() for values in (np.median(x, axis=1), x.min(axis=1), x.max(axis=1)))
        if label in BANDS:
            return Curve(label, at, middle, low, high, colour=colours[label])
        return Curve(label, at, middle, colour=colours[label])

    panels = [
        Panel(f"batch {b}", "t", "x_t", [curve(label, paths[label, b]) for label in members()], log_x=True)
        for b in BATCHES
    ]
    cycles = [curve(label, x) for label, x in cycle.items()]
    return [*panels, Panel(f"no noise, C = {C:g}", "t", "x_t", cycles, log_x=True)]
