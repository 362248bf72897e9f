"""Tables of a study on the terminal: what is planned, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hvd_adam.study.costs import Cost
from hvd_adam.study.execute import in_one_line
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import ENDLESS, Plan, Run


def plan_table(found: Sequence[Cost]) -> Any:
    """Cells, runs, budget and cost, as a rich table."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("cell", "workers", "batch", "ranks", "steps at most", "runs", "ms a step", "node-hours at most"):
        table.add_column(title, justify="left" if title == "cell" else "right", no_wrap=title == "cell")
    for cost in found:
        cell = cost.cell
        table.add_row(
            cell.name,
            str(cell.workers),
            f"{cell.batch:,}",
            str(cell.ranks),
            "" if cell.steps >= ENDLESS else f"{cell.steps:,}",
            "refused" if cell.refused else str(cost.runs),
            "?" if cost.step_seconds is None else f"{1000 * cost.step_seconds:.3g}",
            "?" if cost.node_hours is None else f"{cost.node_hours:.3g}",
        )
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


def status_table(made: Plan, standing: Standing, failures: Mapping[str, Mapping[str, Any]]) -> Any:
    """Finished, failed and missing runs of each cell, as a rich table."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("cell", "done", "of", "reached", "diverged", "steps", "failed"):
        table.add_column(title, justify="left" if title in ("cell", "failed") else "right", no_wrap=title == "cell")
    for cell in (*made.tuning, *made.cells):
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
            f"{len(failed)}: {in_one_line(str(failed[0].get('reason', '')))}" if failed else "",
        )
    return table
