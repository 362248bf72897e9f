"""Theory mode: the criterion against the horizon, and the horizon that the target needs against batch."""

from __future__ import annotations

import math

import numpy as np

from hvd_adam.config import Target
from hvd_adam.study.figures import count, figure, whole
from hvd_adam.study.horizons import HorizonCell, HorizonSeries
from hvd_adam.study.linearity import pooled_start
from hvd_adam.study.pictures.canvas import Canvas, around
from hvd_adam.study.pictures.picture import Picture, shades


def horizon_pictures(series: HorizonSeries, target: Target, prefix: str = "") -> list[Picture]:
    """Both pictures, as far as there are runs."""
    known = [cell for cell in series.cells if cell.ends]
    if not known:
        return []
    crossed = [cell for cell in known if cell.crossing is not None and math.isfinite(cell.crossing.steps.estimate)]
    criterion = Picture(
        f"{prefix}criterion",
        "Criterion against the horizon",
        f"Each dot is one run of its own length T; {target.measure.replace('_', ' ')} at its end. Dashed: the target. "
        "Labels: batch.",
        "Criterion at the end of a run against its horizon, a line for each batch.",
        lambda size: _draw_criterion(known, target, size),
        (("batch", "horizon", "seed", "criterion"), tuple(_rows(known))),
    )
    told = "; ".join(f"batch {whole(c.cell.batch)} {count(c.crossing.steps.estimate)}" for c in crossed if c.crossing)
    steps = Picture(
        f"{prefix}steps",
        "Steps to the target",
        f"T at which {target}, from the criterion fitted against log T; 95 % intervals, seeds as units. "
        "Dashed: 1 / batch from the pooled start.",
        f"Steps to the target against batch, both axes logarithmic: {told}.",
        lambda size: _draw_steps(crossed, size),
        (
            ("batch", "steps"),
            tuple((whole(c.cell.batch), figure(c.crossing.steps)) for c in crossed if c.crossing is not None),
        ),
    )
    return [steps, criterion] if crossed else [criterion]


def _rows(known: list[HorizonCell]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for cell in known:
        rows += [(whole(cell.cell.batch), whole(T), str(seed), count(value)) for T, seed, value in cell.ends]
    return rows[:400]


def _draw_criterion(known: list[HorizonCell], target: Target, size: tuple[int, int]) -> Canvas:
    canvas = Canvas(*size, right=56)
    ends = [end for cell in known for end in cell.ends]
    bound = target.at_most if target.at_most is not None else target.at_least
    assert bound is not None
    y = canvas.y(*around([value for _, _, value in ends] + [bound], room=0.1), log=True)
    canvas.y_axis(y, target.measure.replace("_", " "))
    x = canvas.x(*around([T for T, _, _ in ends]), log=True)
    canvas.x_axis(x, "horizon T, steps")
    canvas.line([(x.start, y(bound)), (x.end, y(bound))], "ideal", f"target: {target}")
    names = []
    for cell, shade in zip(known, shades(len(known)), strict=True):
        horizons = sorted({T for T, _, _ in cell.ends})
        means = [_mean([value for T, _, value in cell.ends if horizon == T]) for horizon in horizons]
        points = [(x(T), y(value)) for T, value in zip(horizons, means, strict=True) if value > 0]
        canvas.line(points, "line", f"batch {whole(cell.cell.batch)}, geometric mean over seeds", shade)
        for T, seed, value in cell.ends:
            if value > 0:
                title = f"batch {whole(cell.cell.batch)}, T {whole(T)}, seed {seed}: {count(value)}"
                canvas.dot(x(T), y(value), title, "seed", 2.5)
        if points:
            names.append((points[-1][1], whole(cell.cell.batch)))
    canvas.labels(size[0] - canvas.right + 6, names, "quiet")
    return canvas


def _mean(values: list[float]) -> float:
    some = [value for value in values if value > 0]
    return math.exp(sum(map(math.log, some)) / len(some)) if some else 0.0


def _draw_steps(crossed: list[HorizonCell], size: tuple[int, int]) -> Canvas:
    canvas = Canvas(*size)
    batches = [float(cell.cell.batch) for cell in crossed]
    found = [cell.crossing.steps for cell in crossed if cell.crossing is not None]
    y = canvas.y(*around([v for one in found for v in (one.low, one.estimate, one.high)], room=0.1), log=True)
    canvas.y_axis(y, "steps")
    x = canvas.x(*around(batches, room=0.07), log=True)
    canvas.x_axis(x, "batch (samples a step)", batches, whole)
    first = pooled_start(np.ones(len(found), bool))
    start = math.exp(np.mean([math.log(found[j].estimate * batches[j]) for j in first]))
    at = [x.low * (x.high / x.low) ** (i / 40) for i in range(41)]
    canvas.line(
        [(x(s), y(start / s)) for s in at if y.holds(start / s)], "ideal", f"ideal: {count(start)} samples / batch"
    )
    for batch, one in zip(batches, found, strict=True):
        title = f"batch {whole(batch)}: {figure(one)} steps"
        if one.n > 1:
            canvas.interval(x(batch), y, one.low, one.high, title)
        canvas.dot(x(batch), y(one.estimate), title)
    return canvas
