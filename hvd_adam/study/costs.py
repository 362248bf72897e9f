"""What a study costs before it is run: from the seconds a step that were recorded, or timed here for a moment."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hvd_adam.errors import ConfigError, RunError
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.execute import Executor
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Cell, Plan, Run

TIMED_STEPS = 30


@dataclass(frozen=True)
class Cost:
    """Of one cell, at most: a run that reaches its target ends sooner.

    Attributes:
        step_seconds: seconds a step; None where it is not known.
        run_seconds: seconds of one run that uses its whole budget; None where it is not known.
    """

    cell: Cell
    runs: int
    step_seconds: float | None
    run_seconds: float | None

    @property
    def node_hours(self) -> float | None:
        """A node is a machine like this one, and a rank takes one of its cores."""
        if self.run_seconds is None:
            return None
        share = min(1.0, self.cell.ranks / len(os.sched_getaffinity(0)))
        return self.runs * self.run_seconds * share / 3600


def costs(study: StudyConfig, made: Plan, step_seconds: Mapping[str, float]) -> list[Cost]:
    """One for each cell, with the runs that still wait for their learning rate."""
    limit = study.budget.seconds if study.budget else None
    found = []
    for cell in (*made.tuning, *made.cells):
        step = step_seconds.get(cell.tunes or cell.group)
        runs = 0 if cell.refused else len(cell.runs) or len(study.seeds)
        found.append(Cost(cell, runs, step, limit or (None if step is None else step * cell.steps)))
    return found


def estimate(study: StudyConfig, made: Plan, folder: Folder, executor: Executor) -> list[Cost]:
    """The costs, from what is recorded in the folder; what is not is timed now.

    Raises:
        RunError: a cell cannot be run; the reason is the run's own.
    """
    seconds = recorded(made, folder)
    wanted = {cell.tunes or cell.group for cell in (*made.tuning, *made.cells) if cell.runs}
    if not wanted <= set(seconds):
        seconds = {**timed(made, executor), **seconds}
    return costs(study, made, seconds)


def known_hours(found: list[Cost]) -> float:
    """Node-hours of all cells at most, as far as they are known."""
    return sum(cost.node_hours or 0.0 for cost in found)


def refuse_over_cap(hours: float | None, cap: float | None) -> None:
    """Raises ConfigError where all jobs together may take more node-hours than the study allows, or nobody knows."""
    if cap is None:
        return
    if hours is None:
        raise ConfigError(
            f"max_node_hours is {cap:g}, and the seconds a step are not known",
            "what cannot be estimated cannot be held to a cap",
            "leave out --no-timing, or take max_node_hours out",
        )
    if hours > cap:
        raise ConfigError(
            f"up to {hours:.3g} node-hours",
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
        folder.make()
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
    for cell in (*made.tuning, *made.cells):
        for run in cell.runs:
            result = folder.result(run)
            if result and result.get("step") and result.get("seconds"):
                found[cell.tunes or cell.group] = sum(result["seconds"].values()) / result["step"]
                break
    return found
