"""How runs go on: the share that has not met the target yet, and the measure against steps and against samples."""

from __future__ import annotations

import itertools
import math
import re
import statistics

from hvd_adam.config import Target
from hvd_adam.study.analysis import CellResult, Series
from hvd_adam.study.collect import Record
from hvd_adam.study.figures import count, percent, whole
from hvd_adam.study.pictures.canvas import LINE, Canvas, Scale, around, width_of
from hvd_adam.study.pictures.picture import Picture, briefly, said, shades
from hvd_adam.study.survival import Curve
from hvd_adam.terminal import plural

RUNS_A_CELL, CELLS_SHOWN = 8, 12
MARGIN = 120  # pixels for names too long to stand beside a line
Label = tuple[float, float, str]  # where, in pixels across and down, and words
HEIGHTS = (0.62, 0.38, 0.74, 0.26, 0.86, 0.14)  # of the names beside curves that fall close to one another


def survival_picture(series: Series, target: str, prefix: str = "") -> Picture:
    """Turnbull's curves, one for each cell."""
    known = [cell for cell in series.cells if cell.curve is not None]
    medians = [(cell, said(series, cell), cell.curve) for cell in known if cell.curve]
    shown = drawn(known)
    return Picture(
        f"{prefix}survival",
        "Runs still on their way",
        f"Share of runs that had not met {target} (Turnbull; Kaplan and Meier's curve where no two looks overlap). "
        f"A slope spans two looks: when in between is not known{_labels(series, shown)}. Intervals stand in the "
        f"table.{_of(shown, known)}",
        "Share of runs still short of the target against steps. "
        + "; ".join(f"{name}: half of the runs by {_median(curve)}" for cell, name, curve in medians if cell in shown)
        + ".",
        lambda size: _draw_survival(series, shown, size),
        (
            ("cell", "half of the runs by", "left at the last look", "runs"),
            tuple((name, _median(curve), _left(curve), str(curve.n)) for _, name, curve in medians),
        ),
    )


def drawn(known: list[CellResult]) -> list[CellResult]:
    """As many cells as a picture holds, spread over all of them, the first and the last included."""
    steps = min(len(known), CELLS_SHOWN) - 1
    return [known[round(i * (len(known) - 1) / steps)] for i in range(steps + 1)] if steps > 0 else known


def _of(shown: list[CellResult], known: list[CellResult]) -> str:
    """How many cells are drawn, where not all of them are."""
    if len(shown) == len(known):
        return ""
    return f" {len(shown)} of {plural(len(known), 'cell')} are drawn; the table has all."


def _median(curve: Curve) -> str:
    low, high = curve.quantile()
    return "no step seen" if math.isinf(high) else f"step {whole(high)} (after {whole(low)})"


def _left(curve: Curve) -> str:
    if not len(curve.surviving):
        return f"100 % (n = {curve.n})"
    ends = f"{percent(float(curve.low[-1]))} to {percent(float(curve.high[-1]))}"
    return f"{percent(float(curve.surviving[-1]))} (95 % interval {ends}, n = {curve.n})"


def _draw_survival(series: Series, known: list[CellResult], size: tuple[int, int]) -> Canvas:
    names, counts = briefly(series, known)
    canvas = Canvas(*size) if counts else Canvas(*size, right=MARGIN)
    looks = [value for cell in known for p in cell.passages for value in (p.low, p.high)]
    y = canvas.y(0, 1)
    canvas.y_axis(y, "share of runs still short of the target", [0, 0.25, 0.5, 0.75, 1], percent)
    x = canvas.x(*around(looks, room=0.05), log=True)
    canvas.x_axis(x, "steps")
    beside: list[Label] = []
    ends: list[Label] = []  # of curves that end above their label's height
    for i, (cell, name, shade) in enumerate(zip(known, names, shades(len(known)), strict=True)):
        points = _draw_curve(canvas, x, y, said(series, cell), cell, shade)
        met = [_crossing(points, y(height)) for height in (*HEIGHTS[i % 2 :], *HEIGHTS[: i % 2])]
        places = [(*place, name) for place in met if place != points[-1]]
        if counts and places:
            free = [place for place in places if not any(_touch(place, other) for other in beside)]
            beside.append((free or places)[0])
        elif counts:
            ends.append((*points[-1], name))
    for across, height, words in _together(beside):
        canvas.text(across + 7, height + 4, words)
    for across, height, words in _together(ends):
        fits = across - width_of(words) > canvas.left
        canvas.text(across, height + LINE, words, anchor="end" if fits else "start")
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


def _together(labels: list[Label]) -> list[Label]:
    """Labels, those that would touch as one, at the rightmost and lowest of its places."""
    for one, other in itertools.combinations(labels, 2):
        if _touch(one, other):
            words = ", ".join(dict.fromkeys([*one[2].split(", "), *other[2].split(", ")]))
            both = max(one[0], other[0]), max(one[1], other[1]), words
            return _together([both, *(label for label in labels if label not in (one, other))])
    return labels


def _touch(one: Label, other: Label) -> bool:
    near = max(width_of(one[2]), width_of(other[2])) + 4
    return abs(one[1] - other[1]) < LINE and abs(one[0] - other[0]) < near


def course_pictures(series: Series, target: Target, prefix: str = "") -> list[Picture]:
    """The target's measure against steps, and against samples."""
    return [_course(series, target, against, prefix) for against in ("steps", "samples")]


def _course(series: Series, target: Target, against: str, prefix: str) -> Picture:
    known = [cell for cell in series.cells if any(record.evaluations for record in cell.records)]
    shown = drawn(known)
    cut = any(len(cell.records) > RUNS_A_CELL for cell in shown)
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
        f"{prefix}{_in_a_name(target.measure)}-{against}",
        f"{name[:1].upper()}{name[1:]} against {against}",
        f"Each line is one run, from its first look to its last{_labels(series, shown)}."
        f"{_of(shown, known)}{left}{linear}",
        f"{name} against {against}, a line for each run of {plural(len(shown), 'cell')}; the target is a dashed line.",
        lambda size: _draw_course(series, shown, target, against, size),
        (("cell", f"{name} at the last look", "runs"), tuple(rows)),
    )


def _in_a_name(measure: str) -> str:
    """A measure as a part of a file's name: what a user calls it may hold any character.

    >>> _in_a_name("train_loss"), _in_a_name("acc[/val] %")
    ('train-loss', 'acc-val')
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", measure).strip("-")[:60] or "measure"


def _labels(series: Series, known: list[CellResult]) -> str:
    """What the labels beside the lines count."""
    counts = briefly(series, known)[1]
    return f"; labels: {counts}" if counts else ""


def _draw_course(
    series: Series, known: list[CellResult], target: Target, against: str, size: tuple[int, int]
) -> Canvas:
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
    y = canvas.y(*around(values, log, 0.12), log)
    canvas.y_axis(y, target.measure.replace("_", " "))
    x = canvas.x(*around([at for *_, points in lines for at, _ in points], room=0.02), log=True)
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


def _one_a_name(labels: list[Label]) -> list[Label]:
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
