"""What a study costs before it is run: from the seconds that were recorded, or timed here for a moment."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

from hvd_adam.config import EvaluateSection
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.execute import Executor
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import ENDLESS, Cell, Plan, Run

TIMED_STEPS = 30


@dataclass(frozen=True)
class UnitCosts:
    """Seconds of one step, of one evaluation, and of what else a run takes: reading data, starting, writing."""

    step: float
    evaluation: float = 0.0
    rest: float = 0.0

    def run(self, steps: int, evaluations: int) -> float:
        """Seconds of a whole run."""
        return self.rest + steps * self.step + evaluations * self.evaluation


@dataclass(frozen=True)
class Known:
    """By group of cells; `start`: seconds until a group of ranks could begin its first run, None where not known."""

    of: Mapping[str, UnitCosts] = field(default_factory=dict)
    start: float | None = None

    def with_older(self, older: Known) -> Known:
        """These, and of the others what is missing here."""
        return Known({**older.of, **self.of}, self.start if self.start is not None else older.start)

    def to_plain(self) -> dict[str, object]:
        """For costs.json."""
        return {"start": self.start, "units": {group: asdict(unit) for group, unit in self.of.items()}}


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


def costs(study: StudyConfig, made: Plan, known: Mapping[str, UnitCosts]) -> list[Cost]:
    """One for each cell, with the runs that still wait for their learning rate."""
    limit = study.budget.seconds if study.budget else None
    planned = [run for cell in (*made.cells, *made.tuning) for run in cell.runs]
    found = []
    for cell in (*made.tuning, *made.cells):
        unit = known.get(cell.tunes or cell.group)
        runs = 0 if cell.refused else len(cell.runs) or len(study.seeds)
        whole = None if unit is None else unit.run(cell.steps, _evaluations(cell.steps, [*cell.runs, *planned]))
        found.append(Cost(cell, runs, unit.step if unit else None, limit or whole))
    return found


def _evaluations(steps: int, runs: Sequence[Run]) -> int:
    """Of a run that uses its whole budget; all runs of a study are evaluated on one grid."""
    if not runs or steps >= ENDLESS:
        return 0
    return len(EvaluateSection.model_validate(runs[0].config.get("evaluate", {})).steps(steps))


def estimate(study: StudyConfig, made: Plan, folder: Folder, executor: Executor) -> list[Cost]:
    """The costs, from what is recorded in the folder; what is not is timed now.

    Raises:
        ConfigError: a cell's config cannot be run; RunError: its run failed; the reason is the run's own.
    """
    known = recorded(made, folder)
    if not groups(made) <= set(known.of):
        known = known.with_older(timed(made, executor))
    return costs(study, made, known.of)


def groups(made: Plan) -> set[str]:
    """Those whose seconds are wanted."""
    return {cell.tunes or cell.group for cell in (*made.tuning, *made.cells) if cell.runs}


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


def timed(made: Plan, executor: Executor) -> Known:
    """Of each group of cells, from `TIMED_STEPS` steps of the real thing on this machine.

    Raises:
        ConfigError: a cell's config cannot be run; RunError: its run failed; the reason is the run's own.
    """
    first = {cell.group: cell for cell in made.cells if cell.runs and not cell.refused}
    first.update({cell.tunes: cell for cell in made.tuning if cell.tunes not in first and cell.runs})
    short = {}
    for group, cell in first.items():
        run = cell.runs[0]
        config = {**run.config, "steps": TIMED_STEPS, "evaluate": {"at": [TIMED_STEPS]}, "until": []}
        short[group] = replace(run, cell=group, config=config)
    found: dict[str, UnitCosts] = {}
    start: float | None = None
    with tempfile.TemporaryDirectory(prefix="hvd_adam-timing-") as place:
        folder = Folder(Path(place))
        folder.make()
        began = time.perf_counter()
        for ended in executor.carry(list(short.values()), folder):
            unit = _unit_costs(folder, ended.run, ended.seconds)
            if unit is None:
                why = ended.failed or "it left no result"
                kind = ConfigError if ended.code == ConfigError.exit_code else RunError
                raise kind(f"cell {ended.run.cell} cannot be timed", why, "mend the run's config first")
            if start is None:
                start = max(0.0, time.perf_counter() - began - ended.seconds)
            found[ended.run.cell] = unit
    return Known(found, start)


def _unit_costs(folder: Folder, run: Run, seconds: float | None) -> UnitCosts | None:
    """Of a finished run, by its own clocks; None where it has none, or was made on another number of ranks.

    Args:
        seconds: that all of it took; None where that is not known.
    """
    result = folder.result(run)
    if not result or not result.get("step") or not result.get("seconds") or result.get("ranks", run.ranks) != run.ranks:
        return None
    evaluations = []
    # a trace that is not there, or is damaged, is the report's business
    with suppress(OSError, ValueError), (folder.of(run) / "trace.jsonl").open() as trace:
        evaluations = [json.loads(line).get("seconds", 0.0) for line in trace if '"kind": "eval"' in line]
    each = sum(evaluations) / len(evaluations) if evaluations else 0.0
    steps = sum(result["seconds"].values())
    whole = seconds is not None and len(folder.launches(run)) == 1  # of a run that was resumed, its last launch's alone
    rest = max(0.0, seconds - steps - sum(evaluations)) if seconds is not None and whole else 0.0
    return UnitCosts(steps / result["step"], each, rest)


def recorded(made: Plan, folder: Folder) -> Known:
    """Of finished runs, else what an earlier timing has left."""
    kept = folder.read("costs.json")
    known = {group: UnitCosts(**unit) for group, unit in kept.get("units", {}).items()}
    finished = {event["run"]: event for event in folder.events() if event.get("kind") == "finished"}
    for cell in (*made.tuning, *made.cells):
        seconds = [(run, finished.get(run.place, {}).get("seconds")) for run in cell.runs]
        unit = next((found for found in (_unit_costs(folder, *one) for one in seconds) if found), None)
        if unit:
            known[cell.tunes or cell.group] = unit
    starts = [event["start"] for event in finished.values() if event.get("start") is not None]
    return Known(known, median(starts) if starts else kept.get("start"))
