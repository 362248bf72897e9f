"""Where the seconds of a step go."""

from __future__ import annotations

from hvd_adam.study.analysis import PHASES, CellResult, Series
from hvd_adam.study.figures import seconds
from hvd_adam.study.pictures.canvas import Canvas
from hvd_adam.study.pictures.picture import Picture, said
from hvd_adam.terminal import plural

_NAMES = {"wait": "waiting for the average", "step": "optimizer's step"}


def phases_picture(series: Series, prefix: str = "") -> Picture | None:
    """A column for each phase, a row for each cell, one scale for all; None where no run was timed."""
    known = [cell for cell in series.cells if cell.step_seconds]
    if not known:
        return None
    return Picture(
        f"{prefix}phases",
        "Where a step's time goes",
        "Mean time a step on rank 0, over the runs of a cell; hover for the least and the largest run. "
        "One scale for all bars.",
        "Time a step by phase: " + "; ".join(f"{said(series, cell)} {_told(cell)}" for cell in known) + ".",
        lambda size: _draw(series, known, size),
        (
            ("cell", "ranks", *PHASES, "runs"),
            tuple(
                (said(series, cell), str(cell.cell.ranks), *(_range(cell, phase) for phase in PHASES), str(_runs(cell)))
                for cell in known
            ),
        ),
    )


def _mean(cell: CellResult, phase: str) -> float:
    values = cell.step_seconds[phase]
    return sum(values) / len(values)


def _runs(cell: CellResult) -> int:
    return len(next(iter(cell.step_seconds.values())))


def _range(cell: CellResult, phase: str) -> str:
    values = cell.step_seconds[phase]
    if len(values) == 1:
        return f"{seconds(values[0])} (single run)"
    return f"{seconds(_mean(cell, phase))} ({seconds(min(values))} to {seconds(max(values))})"


def _told(cell: CellResult) -> str:
    worst = max(PHASES, key=lambda phase: _mean(cell, phase))
    return f"{seconds(sum(_mean(cell, phase) for phase in PHASES))}, most of it {_NAMES.get(worst, worst)}"


def _draw(series: Series, known: list[CellResult], size: tuple[int, int]) -> Canvas:
    width, _ = size
    canvas = Canvas(width, 44 + 52 * len(known), left=0, right=4)
    longest = max(_mean(cell, phase) for cell in known for phase in PHASES)
    column = (width - canvas.right) / len(PHASES)
    for j, phase in enumerate(PHASES):
        canvas.text(column * j, 12, phase, "quiet")
    for i, cell in enumerate(known):
        top = 30 + 52 * i
        canvas.line([(0, top - 11), (width, top - 11)], "rule")
        canvas.text(0, top + 6, f"{said(series, cell)} on {plural(cell.cell.ranks, 'rank')}", "quiet")
        for j, phase in enumerate(PHASES):
            mean = _mean(cell, phase)
            title = (
                f"{said(series, cell)}, {_NAMES.get(phase, phase)}: {_range(cell, phase)}, {plural(_runs(cell), 'run')}"
            )
            room = column - 12
            canvas.bar(column * j, top + 14, max(1.5, room * mean / longest), 5, title)
            canvas.text(column * j, top + 33, seconds(mean))
    return canvas
