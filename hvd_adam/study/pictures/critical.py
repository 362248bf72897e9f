"""The critical batch, the noise scale that was measured, and the elbow that it predicts, on one line of samples."""

from __future__ import annotations

import math

from hvd_adam.study.analysis import Series
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.figures import count, interval, whole
from hvd_adam.study.pictures.canvas import Canvas, Scale, around
from hvd_adam.study.pictures.picture import Picture, said
from hvd_adam.theory.elbow import PREFACTOR, Range

Row = tuple[str, "Estimate | Range", str]  # name, value, what it rests on


def critical_picture(series: Series, prefix: str = "") -> Picture | None:
    """None where nothing of it is known."""
    found = _rows(series)
    if not found:
        return None
    return Picture(
        f"{prefix}critical-batch",
        "Critical batch, regions, noise scale, elbow",
        "In samples a step; bars are 95 % intervals, an arrow is an open end. Regions as in Shallue et al. 2019: 20 % "
        "more samples than the smallest batches, 20 % more steps than the largest. The elbow is expected between "
        f"{PREFACTOR[0]:g} and {PREFACTOR[1]:g} times the noise scale, taken over the second half of the runs.",
        "On one axis of samples: "
        + "; ".join(f"{name} {count(value.low)} to {count(value.high)}" for name, value, _ in found)
        + ".",
        lambda size: _draw(series, found, size),
        (
            ("what", "samples", "interval", "rests on"),
            tuple((name, count(_middle(value)), interval(value), basis) for name, value, basis in found),
        ),
    )


def _rows(series: Series) -> list[Row]:
    rows: list[Row] = []
    curve = series.hyperbola
    if curve is not None and curve.reported:
        rows.append(("critical batch, measured", curve.critical, f"n = {curve.critical.n} runs"))
    if series.regions is not None:
        rows.append(("perfect scaling ends", series.regions.perfect, "critical batch / 5"))
        rows.append(("maximal parallelism begins", series.regions.maximal, "critical batch x 5"))
    for cell in series.cells:
        if cell.noise is not None:
            basis = f"{cell.noise.steps} measured steps of {len(cell.records)} runs"
            rows.append((f"noise scale, {said(series, cell)}", cell.noise.scale, basis))
    if series.predicted is not None and series.noise is not None:
        rows.append(("elbow, predicted", series.predicted, f"noise scale of {said(series, series.noise)}"))
    return rows


def _middle(value: Estimate | Range) -> float:
    return value.estimate if isinstance(value, Estimate) else value.value


def _draw(series: Series, found: list[Row], size: tuple[int, int]) -> Canvas:
    width, _ = size
    canvas = Canvas(width, 72 + 42 * (len(found) + 1), left=8, right=14)
    batches = [float(series.position(cell.cell)) for cell in series.cells]
    values = [v for _, value, _ in found for v in (value.low, _middle(value), value.high)]
    x = canvas.x(*around([v for v in (*values, *batches) if v > 1e-6]), log=True)
    for tick in x.ticks():
        canvas.line([(x(tick), canvas.top), (x(tick), canvas.height - canvas.bottom)], "rule")
    canvas.x_axis(x, "samples a step")
    canvas.text(canvas.left, 26, "batches of this study", "quiet")
    for batch in batches:
        canvas.dot(x(batch), 38, f"batch {whole(batch)}", "open", 3.5)
    for i, (name, value, basis) in enumerate(found):
        _draw_row(canvas, x, 38 + 42 * (i + 1), name, value, basis)
    return canvas


def _draw_row(canvas: Canvas, x: Scale, at: float, name: str, value: Estimate | Range, basis: str) -> None:
    predicted = name.startswith("elbow")
    start, end = (x(x.clip(v)) for v in (value.low, value.high))
    title = f"{name}: {count(_middle(value))} ({interval(value)}), {basis}"
    canvas.text(canvas.left, at - 12, name, "name" if name.startswith("critical") else "quiet")
    if predicted:
        canvas.bar(start, at - 5, end - start, 10, title, "band")
    else:
        canvas.line([(start, at), (end, at)], "line", title, 1 if name.startswith("critical") else 0.55)
        for open_end, edge, way in (
            (math.isinf(value.high), end, -6),
            (value.low <= 0 or math.isinf(value.low), start, 6),
        ):
            if open_end:
                canvas.line([(edge + way, at - 4), (edge, at), (edge + way, at + 4)], "line thin")
    if math.isfinite(_middle(value)) and _middle(value) > 0:
        canvas.dot(x(x.clip(_middle(value))), at, title, "dot", 4)
