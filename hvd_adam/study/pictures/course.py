"""How runs go on: the share that has not met the target yet, and the measure against steps and against samples."""

from __future__ import annotations

import itertools
import math
import statistics

from hvd_adam.config import Target
from hvd_adam.study.analysis import CellResult, Series
from hvd_adam.study.collect import Record
from hvd_adam.study.figures import count, percent, plural, whole
from hvd_adam.study.pictures.canvas import Canvas, Scale, around
from hvd_adam.study.pictures.picture import Picture, briefly, said, shades
from hvd_adam.study.survival import Curve

RUNS_A_CELL, CELLS_SHOWN = 8, 12
MARGIN = 120  # pixels for names too long to stand beside a line
HEIGHTS = (0.62, 0.38)  # of the names beside curves that fall close to one another


def survival_picture(series: Series, target: str, prefix: str = "") -> Picture:
    """Turnbull's curves, one for each cell."""
    known = [cell for cell in series.cells if cell.curve is not None][:CELLS_SHOWN]
    medians = [(said(series, cell), cell.curve) for cell in known if cell.curve]
    return Picture(
        f"{prefix}survival",
        "Runs still on their way",
        f"Share of runs that had not met {target} (Turnbull; Kaplan and Meier's curve where no two looks overlap). "
        f"A slope spans two looks: when in between is not known{_labels(series, known)}. Intervals stand in the table.",
        "Share of runs still short of the target against steps. "
        + "; ".join(f"{name}: half of the runs by {_median(curve)}" for name, curve in medians)
        + ".",
        lambda size: _draw_survival(series, size),
        (
            ("cell", "half of the runs by", "left at the last look", "runs"),
            tuple((name, _median(curve), _left(curve), str(curve.n)) for name, curve in medians),
        ),
    )


def _median(curve: Curve) -> str:
    low, high = curve.quantile()
    return "no step seen" if math.isinf(high) else f"step {whole(high)} (after {whole(low)})"


def _left(curve: Curve) -> str:
    if not len(curve.surviving):
        return f"100 % (n = {curve.n})"
    ends = f"{percent(float(curve.low[-1]))} to {percent(float(curve.high[-1]))}"
    return f"{percent(float(curve.surviving[-1]))} (95 % interval {ends}, n = {curve.n})"


def _draw_survival(series: Series, size: tuple[int, int]) -> Canvas:
    known = [cell for cell in series.cells if cell.curve is not None][:CELLS_SHOWN]
    names, counts = briefly(series, known)
    canvas = Canvas(*size) if counts else Canvas(*size, right=MARGIN)
    looks = [value for cell in known for p in cell.passages for value in (p.low, p.high)]
    x, y = canvas.x(*around(looks, room=0.05), log=True), canvas.y(0, 1)
    canvas.y_axis(y, "share of runs still short of the target", [0, 0.25, 0.5, 0.75, 1], percent)
    canvas.x_axis(x, "steps")
    level: dict[float, list[str]] = {}  # of curves that end above their label's height: where, and their names
    for i, (cell, name, shade) in enumerate(zip(known, names, shades(len(known)), strict=True)):
        points = _draw_curve(canvas, x, y, said(series, cell), cell, shade)
        if counts:
            across, height = _crossing(points, y(HEIGHTS[i % len(HEIGHTS)]))
            if (across, height) == points[-1]:
                level.setdefault(round(height), []).append(name)
            else:
                canvas.text(across + 7, height + 4, name)
    for height, several in level.items():
        canvas.text(x.end, height + 14, ", ".join(dict.fromkeys(several)), anchor="end")
    if not counts:
        canvas.swatches(list(zip(names, shades(len(known)), strict=True)))
    return canvas


def _draw_curve(
    canvas: Canvas, x: Scale, y: Scale, name: str, cell: CellResult, shade: float
) -> list[tuple[float, float]]:
    curve = cell.curve
    assert curve is not None
    last = max(p.high if p.reached else p.low for p in cell.passages)
    points, share = [(x.start, y(1))], 1.0
    steps = list(zip(curve.start.tolist(), curve.end.tolist(), curve.surviving.tolist(), strict=True))
    for start, end, left in steps:
        points += [(x(max(start, x.low)), y(share)), (x(end), y(left))]
        share = left
    points.append((x(max(last, x.low)), y(share)))
    canvas.line(points, "line", f"{name}, n = {curve.n}", shade)
    for start, end, left in steps:
        canvas.dot(
            x(end), y(left), f"{name}: {percent(left)} left at step {whole(end)} (after {whole(start)})", "dot", 3.2
        )
    return points


def _crossing(points: list[tuple[float, float]], height: float) -> tuple[float, float]:
    """Where a falling line comes down to a height; its end where it does not."""
    for (a, top), (b, bottom) in itertools.pairwise(points):
        if top <= height <= bottom and bottom > top:
            return a + (b - a) * (height - top) / (bottom - top), height
    return points[-1]


def course_pictures(series: Series, target: Target, prefix: str = "") -> list[Picture]:
    """The target's measure against steps, and against samples."""
    return [_course(series, target, against, prefix) for against in ("steps", "samples")]


def _course(series: Series, target: Target, against: str, prefix: str) -> Picture:
    known = [cell for cell in series.cells if any(record.evaluations for record in cell.records)][:CELLS_SHOWN]
    cut = any(len(cell.records) > RUNS_A_CELL for cell in known)
    left = f" The first {RUNS_A_CELL} runs of a cell are drawn." if cut else ""
    linear = " Linear speed-up would lay all lines on one." if against == "samples" else ""
    name = target.measure.replace("_", " ")
    rows = []
    for cell in known:
        last = [
            record.evaluations[-1][1].get(target.measure, math.nan) for record in cell.records if record.evaluations
        ]
        rows.append((said(series, cell), f"{count(min(last))} to {count(max(last))}", str(len(last))))
    return Picture(
        f"{prefix}{target.measure.replace('_', '-')}-{against}",
        f"{name[:1].upper()}{name[1:]} against {against}",
        f"Each line is one run, from its first look to its last{_labels(series, known)}.{left}{linear}",
        f"{name} against {against}, a line for each run of {plural(len(known), 'cell')}; the target is a dashed line.",
        lambda size: _draw_course(series, target, against, size),
        (("cell", f"{name} at the last look", "runs"), tuple(rows)),
    )


def _labels(series: Series, known: list[CellResult]) -> str:
    """What the labels beside the lines count."""
    counts = briefly(series, known)[1]
    return f"; labels: {counts}" if counts else ""


def _draw_course(series: Series, target: Target, against: str, size: tuple[int, int]) -> Canvas:
    known = [cell for cell in series.cells if any(record.evaluations for record in cell.records)][:CELLS_SHOWN]
    names, counts = briefly(series, known)
    canvas = Canvas(*size) if counts else Canvas(*size, right=MARGIN)
    lines = []
    for cell, shade in zip(known, shades(len(known)), strict=True):
        factor = cell.cell.batch if against == "samples" else 1
        for record in cell.records[:RUNS_A_CELL]:
            lines.append((cell, shade, record, _points(record, target.measure, factor)))
    bound = target.at_most if target.at_most is not None else target.at_least
    assert bound is not None
    values = [v for *_, points in lines for _, v in points] + [bound]
    log = min(values) > 0 and max(values) / min(values) > 5
    x = canvas.x(*around([at for *_, points in lines for at, _ in points], room=0.02), log=True)
    y = canvas.y(*around(values, log, 0.12), log)
    canvas.y_axis(y, target.measure.replace("_", " "))
    canvas.x_axis(x, against)
    canvas.line([(x.start, y(bound)), (x.end, y(bound))], "ideal", f"target: {target}")
    ends: dict[str, list[tuple[float, float]]] = {}
    for cell, shade, record, points in lines:
        drawn = [(x(at), y(v)) for at, v in points]
        canvas.line(drawn, "line thin", f"{said(series, cell)}, seed {record.run.seed}", shade)
        ends.setdefault(cell.cell.name, []).extend(drawn[-1:])
    if counts:
        last = [
            (sorted(ends[cell.cell.name]), name)
            for cell, name in zip(known, names, strict=True)
            if ends.get(cell.cell.name)
        ]
        canvas.below(_one_a_name([(*found[len(found) // 2], name) for found, name in last]))
    else:
        canvas.swatches(list(zip(names, shades(len(known)), strict=True)))
    return canvas


def _one_a_name(labels: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Labels, those that say the same as one, in their middle: cells of one batch and other workers."""
    found: dict[str, list[tuple[float, float]]] = {}
    for across, height, name in labels:
        found.setdefault(name, []).append((across, height))
    return [(*map(statistics.fmean, zip(*places, strict=True)), name) for name, places in found.items()]  # type: ignore[misc]


def _points(record: Record, measure: str, factor: int) -> list[tuple[float, float]]:
    """(steps or samples, value) of a run, without what has no place on a logarithmic axis: step 0, nan and inf."""
    return [
        (float(step * factor), value)
        for step, measures in record.evaluations
        if step > 0 and math.isfinite(value := measures.get(measure, math.nan))
    ]
