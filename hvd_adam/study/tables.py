"""Tables of a study on the terminal: what is planned, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hvd_adam.study.costs import Cost
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Plan


def plan_table(found: Sequence[Cost]) -> Any:
    """Cells, runs, budget and cost, as a rich table."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("cell", "workers", "batch", "ranks", "steps at most", "runs", "ms a step", "node-hours at most"):
        table.add_column(title, justify="left" if title == "cell" else "right")
    for cost in found:
        cell = cost.cell
        table.add_row(
            cell.name,
            str(cell.workers),
            f"{cell.batch:,}",
            str(cell.ranks),
            f"{cell.steps:,}",
            "refused" if cell.refused else str(cost.runs),
            "?" if cost.step_seconds is None else f"{1000 * cost.step_seconds:.3g}",
            "?" if cost.node_hours is None else f"{cost.node_hours:.3g}",
        )
    return table


def status_table(made: Plan, folder: Folder) -> Any:
    """Finished, failed and missing runs of each cell, as a rich table."""
    from rich.table import Table

    failures = folder.failures()
    table = Table(box=None, pad_edge=False)
    for title in ("cell", "done", "of", "reached", "steps", "failed"):
        table.add_column(title, justify="left" if title in ("cell", "failed") else "right")
    for cell in (*made.tuning, *made.cells):
        results = [folder.result(run) for run in cell.runs]
        done = [r for run, r in zip(cell.runs, results, strict=True) if r and folder.is_finished(run)]
        steps = sorted(int(result["step"]) for result in done if result.get("ended_by") == "target")
        failed = [failures[run.place] for run in cell.runs if run.place in failures]
        shown = f"{steps[0]:,} to {steps[-1]:,}" if steps else ""
        table.add_row(
            cell.name,
            str(len(done)),
            "refused" if cell.refused else str(len(cell.runs)),
            str(len(steps)),
            shown,
            f"{len(failed)}: {failed[0].get('reason', '').splitlines()[0]}" if failed else "",
        )
    return table
