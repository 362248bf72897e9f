"""Steps to the target against workers, and what is left of a perfect speed-up."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hvd_adam.study.analysis import CellResult, Series
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.figures import count, figure, percent, whole
from hvd_adam.study.linearity import EXCESS, efficiency
from hvd_adam.study.passage import Passage
from hvd_adam.study.pictures.canvas import Canvas, Scale, around, width_of
from hvd_adam.study.pictures.picture import Picture, rows_of, said, ticks
from hvd_adam.study.verdict import place

BEYOND = 3  # times that the axis goes on for an interval beyond all runs; the rest of it is an arrow
SEEDS_SHOWN = 1500  # dots of single runs; beyond, cells alone are drawn


def steps_picture(series: Series, target: str, prefix: str = "") -> Picture:
    """Steps against workers, with the ideal line, its band and the fitted hyperbola."""
    known = [cell for cell in series.cells if cell.reach is not None]
    told = "; ".join(f"{said(series, cell)} {_steps(cell)}" for cell in known)
    return Picture(
        f"{prefix}steps",
        "Steps to the target",
        f"Until {target}. Dots: cells, with 95 % intervals. Beside them each run, between the last look that missed "
        "the target and the first that met it; hollow where none did. Dashed: "
        "1 / batch from the pooled start, with its interval.",
        f"Steps to the target against {ticks(series)[2]}, both axes logarithmic: {told}.",
        lambda size: _draw_steps(series, size),
        (
            ("cell", "steps", "reached", "censored", "diverged"),
            rows_of(
                known,
                series,
                _steps,
                *(
                    lambda cell, kind=kind: str(getattr(cell.reach.cell, kind))
                    for kind in ("reached", "censored", "diverged")
                ),
            ),
        ),
    )


def _steps(cell: CellResult) -> str:
    if cell.reach is None:
        return "unknown"
    if cell.lower_bound is not None:
        return f"more than {whole(cell.lower_bound)} (no run reached, n = {len(cell.passages)})"
    return figure(cell.reach.steps)


def _draw_steps(series: Series, size: tuple[int, int]) -> Canvas:
    canvas = Canvas(*size, right=74, bottom=54)
    at, write, name = ticks(series)
    y = canvas.y(*around(_heights(series), room=0.08), log=True)
    canvas.y_axis(y, "steps")
    x = canvas.x(*around(at, room=0.11), log=True)
    canvas.x_axis(x, name, at, write)
    ends = _ideal(canvas, x, y, series) + _hyperbola(canvas, x, y, series)
    _linear_range(canvas, x, series)
    if sum(len(cell.passages) for cell in series.cells) <= SEEDS_SHOWN:
        for cell in series.cells:
            _runs(canvas, x, y, series, cell)
    for cell in series.cells:
        _mean(canvas, x, y, series, cell)
    canvas.labels(size[0] - canvas.right + 6, ends, "quiet")
    return canvas


def _heights(series: Series) -> list[float]:
    """What the steps' axis holds: runs and cells, and the ends of intervals as far as runs and cells stay readable."""
    found: list[float] = []
    for cell in series.cells:
        found += [end for passage in cell.passages for end in (passage.low, passage.high) if 0 < end < math.inf]
        if cell.reach is not None and math.isfinite(cell.reach.steps.estimate):
            found.append(cell.reach.steps.estimate)
    known = [cell.reach.steps for cell in series.cells if cell.reach is not None and cell.reach.steps.n > 1]
    ends = [end for one in known if math.isfinite(one.estimate) for end in (one.low, one.high) if 0 < end < math.inf]
    low, high = (min(found) / BEYOND, max(found) * BEYOND) if found else (0, math.inf)
    return found + [min(max(end, low), high) for end in ends]


def _ideal(canvas: Canvas, x: Scale, y: Scale, series: Series) -> list[tuple[float, str]]:
    ideal = series.ideal
    if ideal is None or not math.isfinite(ideal.estimate) or series.axis == "workers":
        return []
    at = [x.low * (x.high / x.low) ** (i / 40) for i in range(41)]
    if math.isfinite(ideal.high) and ideal.low > 0:
        inside = [s for s in at if y.holds(ideal.estimate / s)]
        upper, lower = ([(x(s), y(y.clip(end / s))) for s in inside] for end in (ideal.high, ideal.low))
        if len(inside) > 1:
            canvas.area(upper, lower, "greyband")
    inside = [(x(s), y(ideal.estimate / s)) for s in at if y.holds(ideal.estimate / s)]
    canvas.line(inside, "ideal", f"ideal: {count(ideal.estimate)} samples / batch")
    return [(inside[-1][1], "ideal")] if inside and inside[-1][0] > x.end - 2 else []


def _hyperbola(canvas: Canvas, x: Scale, y: Scale, series: Series) -> list[tuple[float, str]]:
    curve = series.hyperbola
    if curve is None or not curve.reported or not math.isfinite(curve.critical.estimate):
        return []
    at = [x.low * (x.high / x.low) ** (i / 40) for i in range(41)]
    inside = [(x(s), y(curve.steps(s))) for s in at if y.holds(curve.steps(s))]
    canvas.line(
        inside, "curve", f"hyperbola: {count(curve.floor.estimate)} (1 + {count(curve.critical.estimate)} / batch)"
    )
    return [(inside[-1][1], "hyperbola")] if inside else []


def _linear_range(canvas: Canvas, x: Scale, series: Series) -> None:
    if series.linear is None or not math.isfinite(series.linear.up_to.estimate) or series.axis == "workers":
        return
    at = x(series.linear.up_to.estimate)
    words = f"linear up to {place(series, series.linear.up_to.estimate).split(' (')[0]}"
    canvas.whisker(at, canvas.top, canvas.height - canvas.bottom, words, "rule")
    # Lines fall from the upper left to the lower right: the other two corners are free.
    fits = at + 5 + width_of(words) < canvas.width
    height = canvas.top + 10 if fits else canvas.height - canvas.bottom - 6
    canvas.text(at + (5 if fits else -5), height, words, "quiet", "start" if fits else "end")


def _runs(canvas: Canvas, x: Scale, y: Scale, series: Series, cell: CellResult) -> None:
    """A short upright bar for each run, beside its cell: from the last miss to the first that met the target."""
    room = min(4.0, 26.0 / max(len(cell.passages), 1))
    for i, passage in enumerate(cell.passages):
        at, title = x(series.position(cell.cell)) + 9 + room * i, f"{said(series, cell)}, {told(passage)}"
        if passage.reached:
            low, high = y(y.clip(passage.low)), y(passage.high)
            canvas.bar(at - room * 0.3, high, room * 0.6, max(2.0, low - high), title, "seed")
        else:
            canvas.dot(at, y(passage.low), title, "open", 2.5)


def told(passage: Passage) -> str:
    """What one run did, in words."""
    if passage.reached:
        return f"seed {passage.seed}: between step {whole(passage.low)} and {whole(passage.high)}"
    if passage.diverged:
        return f"seed {passage.seed}: diverged after step {whole(passage.low)}"
    return f"seed {passage.seed}: not by step {whole(passage.low)}"


def _mean(canvas: Canvas, x: Scale, y: Scale, series: Series, cell: CellResult) -> None:
    if cell.reach is None or not math.isfinite(cell.reach.steps.estimate):
        return
    found = cell.reach.steps
    at, title = x(series.position(cell.cell)), f"{said(series, cell)}: {figure(found)} steps"
    _interval(canvas, at, y, found, title)
    canvas.dot(at, y(found.estimate), title)


def _interval(canvas: Canvas, at: float, y: Scale, found: Estimate, title: str) -> None:
    if found.n > 1:
        canvas.interval(at, y, found.low, found.high, title)


def efficiency_picture(series: Series, prefix: str = "") -> Picture:
    """Samples of the pooled start over those of each cell."""
    shares = {cell.cell.group: found for cell in series.cells if (found := _efficiency(series, cell)) is not None}
    known = [cell for cell in series.cells if cell.cell.group in shares]
    told = "; ".join(f"{said(series, cell)} {percent(shares[cell.cell.group].estimate)}" for cell in known)
    return Picture(
        f"{prefix}efficiency",
        "Efficiency in samples",
        f"Samples that the pooled start needs over those that a cell needs, 95 % intervals. 100 % is linear; "
        f"linear ends below {percent(1 / EXCESS)} (dashed).",
        f"Efficiency against {ticks(series)[2]}: {told}.",
        lambda size: _draw_efficiency(series, shares, known, size),
        (("cell", "efficiency"), rows_of(known, series, lambda cell: figure(shares[cell.cell.group], percent))),
    )


def _efficiency(series: Series, cell: CellResult) -> Estimate | None:
    found = series.linear.excess.get(cell.cell.group) if series.linear else None
    if found is None or not found.estimate > 0:
        return None
    return efficiency(found)


def _draw_efficiency(
    series: Series, shares: dict[str, Estimate], known: Sequence[CellResult], size: tuple[int, int]
) -> Canvas:
    canvas = Canvas(*size, right=74, bottom=54)
    at, write, name = ticks(series)
    ends = [end for found in shares.values() for end in (found.estimate, found.high) if math.isfinite(end)]
    y = canvas.y(0, max(1.05, *ends) * 1.04 if ends else 1.1)
    canvas.y_axis(y, "efficiency", write=percent)
    x = canvas.x(*around(at, room=0.05), log=True)
    canvas.x_axis(x, name, at, write)
    levels = ((1.0, "linear"), (1 / EXCESS, f"{percent(EXCESS - 1)} more"))
    for level, words in levels:
        canvas.line([(x.start, y(level)), (x.end, y(level))], "ideal", f"{words} samples" if level < 1 else words)
    canvas.labels(size[0] - canvas.right + 6, [(y(level), words) for level, words in levels], "quiet")
    points = [(x(series.position(cell.cell)), y(shares[cell.cell.group].estimate)) for cell in known]
    canvas.line(points, "line thin", opacity=0.6)
    for (across, height), cell in zip(points, known, strict=True):
        found = shares[cell.cell.group]
        title = f"{said(series, cell)}: {figure(found, percent)}"
        _interval(canvas, across, y, found, title)
        canvas.dot(across, height, title)
    return canvas
