"""What a study costs before it is run: from the seconds a step that were recorded, or timed here for a moment."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hvd_adam.errors import ConfigError, RunError
from hvd_adam.study.execute import Executor
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Cell, Plan, Run

TIMED_STEPS = 30


@dataclass(frozen=True)
class Cost:
    """Of one cell: seconds a step (None: not known), runs, and node-hours if every run uses its whole budget."""

    cell: Cell
    runs: int
    step_seconds: float | None

    @property
    def node_hours(self) -> float | None:
        """Upper bound: a run that reaches its target ends sooner. A node is this machine."""
        return None if self.step_seconds is None else self.runs * self.cell.steps * self.step_seconds / 3600


def costs(made: Plan, seeds: int, step_seconds: Mapping[str, float]) -> list[Cost]:
    """One for each cell; `seeds` counts the runs of cells that still wait for their learning rate."""
    return [
        Cost(cell, 0 if cell.refused else len(cell.runs) or seeds, step_seconds.get(cell.group))
        for cell in (*made.tuning, *made.cells)
    ]


def refuse_over_cap(found: list[Cost], cap: float | None) -> None:
    """Raises ConfigError where the bound on all node-hours is over the study's cap."""
    total = sum(cost.node_hours or 0.0 for cost in found)
    if cap is not None and total > cap:
        raise ConfigError(
            f"up to {total:.3g} node-hours",
            f"max_node_hours is {cap:g}",
            "lower the budget, the seeds or the grid, or raise max_node_hours",
        )


def timed(made: Plan, executor: Executor) -> dict[str, float]:
    """Seconds a step of each group of cells, from `TIMED_STEPS` steps of the real thing on this machine.

    Raises:
        RunError: a cell cannot be run; the reason is the run's own.
    """
    first = {cell.group: cell for cell in made.cells if cell.runs and not cell.refused}
    first.update({cell.tunes: cell for cell in made.tuning if cell.tunes not in first and cell.runs})
    short = {}
    for group, cell in first.items():
        run = cell.runs[0]
        config = {**run.config, "steps": TIMED_STEPS, "evaluate": {"at": [TIMED_STEPS]}, "until": []}
        short[group] = replace(run, cell=group, config=config)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="hvd_adam-timing-") as place:
        folder = Folder(Path(place))
        for ended in executor.carry(list(short.values()), folder):
            found[ended.run.cell] = _step_seconds(folder, ended.run, ended.failed)
    return found


def _step_seconds(folder: Folder, run: Run, failed: str) -> float:
    result = folder.result(run)
    if not result or not result.get("step"):
        raise RunError(f"cell {run.cell} cannot be timed", failed or "it left no result", "mend the run's config first")
    return sum(result["seconds"].values()) / result["step"]


def recorded(made: Plan, folder: Folder) -> dict[str, float]:
    """Seconds a step by group of cells: those of finished runs, else what an earlier timing has left."""
    found: dict[str, float] = dict(folder.read("costs.json"))
    for cell in made.cells:
        for run in cell.runs:
            result = folder.result(run)
            if result and result.get("step") and result.get("seconds"):
                found[cell.group] = sum(result["seconds"].values()) / result["step"]
                break
    return found
