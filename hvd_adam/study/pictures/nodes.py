"""What nodes buy: time to the target, what it costs, and how well they are used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hvd_adam.study.analysis import CellResult, Series
from hvd_adam.study.cost import Option
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.figures import Writer, count, figure, percent, seconds, through, whole
from hvd_adam.study.pace import Pace
from hvd_adam.study.pictures.canvas import Canvas, Scale, around
from hvd_adam.study.pictures.picture import Picture, said, ticks
from hvd_adam.terminal import plural

Shares = Mapping[str, int]  # local batch by cell


def node_pictures(series: Series, prefix: str = "") -> list[Picture]:
    """Time, cost and use of nodes, as far as the study tells them."""
    if series.pace is None:
        return []
    if len(series.pace.options) < 2:
        return [_on_its_ranks(series, series.pace, prefix)] if series.pace.time else []
    shares = {cell.cell.group: cell.cell.batch // cell.cell.workers for cell in series.cells}
    found = [_time(series.pace, shares, prefix), _cost(series.pace, shares, prefix)]
    known = [cell for cell in series.cells if cell.cell.group in series.pace.real]
    use = series.pace.efficiency
    known = [cell for cell in known if cell.cell.group in use and math.isfinite(use[cell.cell.group].total.estimate)]
    if len(known) > 1:
        found.append(_use(series.pace, known, prefix))
    return found


def _time(pace: Pace, shares: Shares, prefix: str) -> Picture:
    values = [(option, option.seconds) for option in pace.options]
    return _against_nodes(pace, shares, values, seconds, f"{prefix}time", "Time to the target", "time")


def _cost(pace: Pace, shares: Shares, prefix: str) -> Picture:
    unit, what = (
        (3600, "node-seconds") if max(o.node_hours.estimate for o in pace.options) < 0.05 else (1, "node-hours")
    )
    values = [(option, through(option.node_hours, lambda hours: hours * unit)) for option in pace.options]
    return _against_nodes(pace, shares, values, count, f"{prefix}cost", "Cost of the target", what)


def _against_nodes(
    pace: Pace, shares: Shares, values: Sequence[tuple[Option, Estimate]], write: Writer, name: str, title: str,
    what: str,
) -> Picture:  # fmt: skip
    predicted = any(pace.is_predicted(option) for option, _ in values)
    model = " Hollow: not run, by a latency-bandwidth model of the step." if predicted else ""
    told = "; ".join(f"{plural(option.nodes, 'node')} {write(found.estimate)}" for option, found in values)
    return Picture(
        name,
        title,
        f"{what[:1].upper()}{what[1:]} with a node for each worker, 95 % intervals.{model}{_joined(shares)}",
        f"{title} against nodes, both axes logarithmic: {told}.",
        lambda size: _draw(pace, shares, values, write, what, size),
        (
            ("nodes", "local batch", what, "how"),
            tuple(
                (
                    whole(option.nodes),
                    whole(shares[option.name]),
                    figure(found, write),
                    "predicted" if pace.is_predicted(option) else "measured",
                )
                for option, found in values
            ),
        ),
    )


def _joined(shares: Shares) -> str:
    """What a line joins, where cells differ in more than their nodes."""
    return " A line joins cells of one local batch." if len(set(shares.values())) > 1 else ""


def _draw(
    pace: Pace, shares: Shares, values: Sequence[tuple[Option, Estimate]], write: Writer, what: str,
    size: tuple[int, int],
) -> Canvas:  # fmt: skip
    canvas = Canvas(*size)
    nodes = sorted({float(option.nodes) for option, _ in values})
    y = canvas.y(*around([end for _, found in values for end in _ends(found)], room=0.1), log=True)
    canvas.y_axis(y, what, write=write)
    x = canvas.x(*around(nodes, room=0.07), log=True)
    canvas.x_axis(x, "nodes", nodes, whole)
    points = [(x(option.nodes), y(found.estimate)) for option, found in values]
    for share in sorted(set(shares.values())):
        alike = [at for at, (option, _) in zip(points, values, strict=True) if shares[option.name] == share]
        canvas.line(alike, "line thin", f"local batch {whole(share)}", opacity=0.5)
    for at, (option, found) in zip(points, values, strict=True):
        kind = "predicted" if pace.is_predicted(option) else "measured"
        title = (
            f"{plural(option.nodes, 'node')}, {kind}: {figure(found, write)}, local batch {whole(shares[option.name])}"
        )
        _whisker(canvas, at[0], y, found, title)
        canvas.dot(*at, title, "open" if kind == "predicted" else "dot")
    if pace.choice is not None:
        _mark(canvas, x, pace.choice.fastest.nodes if what == "time" else pace.choice.cheapest.nodes, what)
    return canvas


def _mark(canvas: Canvas, x: Scale, nodes: int, what: str) -> None:
    words = "fastest" if what == "time" else "cheapest"
    at = x(nodes)
    canvas.whisker(at, canvas.top, canvas.height - canvas.bottom, f"{words}: {plural(nodes, 'node')}", "rule")
    near_end = at > canvas.width - canvas.right - 60
    canvas.text(at + (-5 if near_end else 5), canvas.top + 8, words, "quiet", "end" if near_end else "start")


def _ends(found: Estimate) -> list[float]:
    return [value for value in (found.low, found.estimate, found.high) if 0 < value < math.inf]


def _whisker(canvas: Canvas, at: float, y: Scale, found: Estimate, title: str) -> None:
    if found.n > 1:
        canvas.interval(at, y, found.low, found.high, title)


def _use(pace: Pace, known: Sequence[CellResult], prefix: str) -> Picture:
    rows = [(cell.cell.workers, pace.efficiency[cell.cell.group]) for cell in known]
    told = "; ".join(f"{plural(n, 'node')}: {percent(one.total.estimate)}" for n, one in rows)
    return Picture(
        f"{prefix}use-of-nodes",
        "How well nodes are used",
        "Algorithmic (samples needed) x system (samples a second and node) = total, against the pooled start, 95 % "
        "intervals of the total. Cells with a rank for each worker."
        + _joined({cell.cell.name: cell.cell.batch // cell.cell.workers for cell in known}),
        f"Efficiency against nodes; total: {told}.",
        lambda size: _draw_use(pace, known, size),
        (
            ("nodes", "algorithmic", "system", "total"),
            tuple(
                (whole(n), *(figure(e, percent) for e in (one.algorithmic, one.system, one.total))) for n, one in rows
            ),
        ),
    )


def _draw_use(pace: Pace, known: Sequence[CellResult], size: tuple[int, int]) -> Canvas:
    canvas = Canvas(*size, right=86)
    nodes = [float(cell.cell.workers) for cell in known]
    found = [pace.efficiency[cell.cell.group] for cell in known]
    tops = [v for one in found for v in (one.algorithmic.estimate, one.system.estimate, one.total.estimate)]
    y = canvas.y(0, max(1.0, *tops, *(one.total.high for one in found if math.isfinite(one.total.high))) * 1.05)
    canvas.y_axis(y, "efficiency", write=percent)
    x = canvas.x(*around(nodes, room=0.07), log=True)
    canvas.x_axis(x, "nodes", sorted(set(nodes)), whole)
    shares = [cell.cell.batch // cell.cell.workers for cell in known]
    names = []
    for kind, css in (("algorithmic", "ideal"), ("system", "curve"), ("total", "line")):
        values = [getattr(one, kind) for one in found]
        points = [(x(n), y(value.estimate)) for n, value in zip(nodes, values, strict=True)]
        for share in sorted(set(shares)):
            canvas.line([at for at, one in zip(points, shares, strict=True) if one == share], css, kind)
        names.append((points[-1][1], kind))
        for at, n, value in zip(points, nodes, values, strict=True):
            title = f"{plural(int(n), 'node')}, {kind}: {figure(value, percent)}"
            if kind == "total":
                _whisker(canvas, at[0], y, value, title)
            canvas.dot(*at, title, "dot" if kind == "total" else "open", 4 if kind == "total" else 3)
    canvas.labels(size[0] - canvas.right + 8, names, "quiet")
    return canvas


def _on_its_ranks(series: Series, pace: Pace, prefix: str) -> Picture:
    """Where workers shared ranks and no model can be had: seconds on the ranks that ran them."""
    known = [cell for cell in series.cells if cell.cell.group in pace.time]
    rows = [(said(series, cell), cell.cell.ranks, pace.time[cell.cell.group]) for cell in known]
    return Picture(
        f"{prefix}time",
        "Time to the target, on the ranks of this study",
        "Steps x seconds a step, 95 % intervals. Workers shared ranks, so these are no times of as many nodes.",
        "Time to the target: " + "; ".join(f"{name} {seconds(found.estimate)}" for name, _, found in rows) + ".",
        lambda size: _draw_on_its_ranks(series, pace, known, size),
        (("cell", "ranks", "time"), tuple((name, count(ranks), figure(found, seconds)) for name, ranks, found in rows)),
    )


def _draw_on_its_ranks(series: Series, pace: Pace, known: Sequence[CellResult], size: tuple[int, int]) -> Canvas:
    canvas = Canvas(*size, bottom=54)
    at, write, name = ticks(series)
    found = [pace.time[cell.cell.group] for cell in known]
    y = canvas.y(*around([end for one in found for end in _ends(one)], room=0.1), log=True)
    canvas.y_axis(y, "time", write=seconds)
    x = canvas.x(*around(at, room=0.07), log=True)
    canvas.x_axis(x, name, at, write)
    for cell, one in zip(known, found, strict=True):
        if math.isfinite(one.estimate):
            title = f"{said(series, cell)} on {plural(cell.cell.ranks, 'rank')}: {figure(one, seconds)}"
            _whisker(canvas, x(series.position(cell.cell)), y, one, title)
            canvas.dot(x(series.position(cell.cell)), y(one.estimate), title)
    return canvas
