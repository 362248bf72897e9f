"""Tables of a study on the terminal: what is planned, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hvd_adam.study.costs import Cost
from hvd_adam.study.execute import in_one_line
from hvd_adam.study.figures import count
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import ENDLESS, Cell, Plan, Run
from hvd_adam.terminal import plural


def plan_table(found: Sequence[Cost]) -> Any:
    """Cells, runs, budget and cost, as a rich table."""
    names = ("workers", "batch", "ranks", "steps\nat most", "runs", "ms\na step", "node-hours\nat most")
    table = _table(("cell",), names)
    for cost in found:
        cell = cost.cell
        table.add_row(
            cell.name,
            str(cell.workers),
            f"{cell.batch:,}",
            str(cell.ranks),
            "" if cell.steps >= ENDLESS else f"{cell.steps:,}",
            "refused" if cell.refused else str(cost.runs),
            "?" if cost.step_seconds is None else count(1000 * cost.step_seconds),
            "?" if cost.node_hours is None else count(cost.node_hours),
        )
    return table


def _table(before: Sequence[str], numbers: Sequence[str], after: Sequence[str] = ()) -> Any:
    """An empty table. Where the terminal is narrow, columns of words fold, and numbers stay whole."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in (*before, *numbers, *after):
        if name in numbers:
            table.add_column(name, justify="right", no_wrap=True)
        else:
            table.add_column(name, overflow="fold")
    return table


class Standing:
    """What has come of each run so far. A result is read once: a study of 1,000 runs asks often."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._finished: dict[str, dict[str, Any]] = {}

    def finished(self, run: Run) -> dict[str, Any] | None:
        """The result of a run that needs no further attempt; None of one that does."""
        if run.place not in self._finished and self.folder.is_finished(run):
            self._finished[run.place] = self.folder.result(run) or {}
        return self._finished.get(run.place)

    def left(self, made: Plan) -> int:
        """Runs that have not ended for good."""
        return sum(self.finished(run) is None for run in made.runs)


Failures = Mapping[str, Mapping[str, Any]]  # what is known of the last attempt, by the run's place


def status_table(cells: Sequence[Cell], standing: Standing, failures: Failures) -> Any:
    """Finished, failed and missing runs of each cell, as a rich table; reasons as far as they fit on a line."""
    from rich.text import Text

    table = _table(("cell",), ("done", "of", "reached", "diverged", "steps"), ("failed",))
    for cell in cells:
        done = [result for run in cell.runs if (result := standing.finished(run)) is not None]
        steps = sorted(int(result["step"]) for result in done if result.get("ended_by") == "target")
        diverged = sum(result.get("ended_by") == "diverged" for result in done)
        failed = [failures[run.place] for run in cell.runs if run.place in failures]
        table.add_row(
            cell.name,
            str(len(done)),
            "refused" if cell.refused else str(len(cell.runs)) if cell.runs else "after tuning",
            str(len(steps)),
            str(diverged) if diverged else "",
            f"{steps[0]:,} to {steps[-1]:,}" if steps else "",
            Text(_failed(failed), no_wrap=True, overflow="ellipsis"),
        )
    return table


def _failed(failed: Sequence[Mapping[str, Any]]) -> str:
    return f"{len(failed)}: {in_one_line(str(failed[0].get('reason', '')))}" if failed else ""


def live_table(made: Plan, standing: Standing, failures: Failures, console: Any) -> Any:
    """The runs left, and the part of `status_table` that fits: cells at work first, then those to come, then the rest.

    Cells on many ranks are made first, and those that tune before all others.
    """
    from rich.console import Group

    cells = (*made.tuning, *made.cells)
    order = sorted(range(len(cells)), key=lambda i: (_to_come(cells[i], standing, failures), i))
    room = max(4, console.height - 1)
    shown = min(len(cells), room)
    while True:
        said = f"{standing.left(made):,} of {plural(len(made.runs), 'run')} left"
        if shown < len(cells):
            said += f"; {len(cells) - shown:,} of {plural(len(cells), 'cell')} not shown"
        view = Group(said, status_table([cells[i] for i in sorted(order[:shown])], standing, failures))
        over = len(console.render_lines(view)) - room
        if over <= 0 or shown == 1:
            return view
        shown = max(1, shown - max(1, over // 2))  # a long name folds, so that a cell takes a line or more


def _to_come(cell: Cell, standing: Standing, failures: Failures) -> tuple[int, bool, int]:
    """Sorts cells by when they are at work: those with runs to make, those whose runs failed, those that are done."""
    left = [run for run in cell.runs if standing.finished(run) is None]
    waits = not cell.runs and not cell.refused
    place = 0 if any(run.place not in failures for run in left) or waits else 1 if left else 2
    return place, not cell.tunes, -cell.ranks
