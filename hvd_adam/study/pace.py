"""From steps to seconds: what was timed, what is predicted for node counts not run, and how many nodes to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hvd_adam.errors import HvdAdamError
from hvd_adam.study.collect import Record
from hvd_adam.study.cost import Choice, Option, choose, options
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.passage import Passage
from hvd_adam.study.plan import Cell
from hvd_adam.study.reach import reach
from hvd_adam.study.seconds import Clock, Efficiency, Timing, efficiencies, product, time_to_target
from hvd_adam.study.step_time import Prediction, StepTime


@dataclass(frozen=True)
class Pace:
    """What the clock says. A node is a rank; a cell is run for real where every worker has a rank of its own.

    Attributes:
        step: seconds a step of each cell on the ranks that ran it.
        time: seconds to the target, on the same.
        efficiency: algorithmic, system and total, of each cell on its ranks.
        waiting: share of a step in which rank 0 waits for the average, by cell.
        predicted: for cells whose workers shared ranks: a step with a rank for each worker, by the model.
        options: the ways to the target with a node for each worker, measured and predicted.
        choice: how many nodes to take.
        real: cells that were run with a rank for each worker.
    """

    step: Mapping[str, Estimate]
    time: Mapping[str, Estimate]
    efficiency: Mapping[str, Efficiency]
    waiting: Mapping[str, float]
    predicted: Mapping[str, Prediction]
    options: tuple[Option, ...]
    choice: Choice | None
    real: frozenset[str]

    def is_predicted(self, option: Option) -> bool:
        """Whether an option was not run as such."""
        return option.name not in self.real


def pace(cells: Sequence[Cell], records: Sequence[Record], passages: Sequence[Passage]) -> Pace | None:
    """Works out the pace of one series; None where no run was timed or no run says anything of the target."""
    timings = [_timing(record) for record in records if record.step_seconds and sum(record.step_seconds.values()) > 0]
    if not timings or not passages:
        return None
    clock = Clock(timings)
    times = time_to_target(passages, clock)
    real = frozenset(cell.group for cell in cells if cell.ranks == cell.workers and cell.group in times)
    predicted = _predicted([cell for cell in cells if cell.group in times and cell.group not in real], timings)
    steps = _steps(passages, clock)
    ways = {name: times[name] for name in real}
    ways |= {
        name: product(steps[name], one.seconds, "steps x predicted seconds a step") for name, one in predicted.items()
    }
    found = options(ways, {cell.group: cell.workers for cell in cells})
    shares = {name: phases.get("wait", 0.0) for name, phases in clock.shares().items()}
    return Pace(
        clock.seconds_a_step(),
        times,
        efficiencies(passages, clock),
        shares,
        predicted,
        tuple(found),
        choose(found) if len({option.nodes for option in found}) > 1 else None,
        real,
    )


def _timing(record: Record) -> Timing:
    cell = record.cell
    seconds = sum(record.step_seconds.values())
    return Timing(cell.group, cell.batch, cell.ranks, record.run.seed, seconds, record.step_seconds)


def _predicted(cells: Sequence[Cell], timings: Sequence[Timing]) -> dict[str, Prediction]:
    try:
        model = StepTime(timings)
    except HvdAdamError:  # one node count alone
        return {}
    found = {}
    for cell in cells:
        try:
            found[cell.group] = model(cell.workers, cell.batch)
        except HvdAdamError:  # too far from what was run
            continue
    return found


def _steps(passages: Sequence[Passage], clock: Clock) -> dict[str, Estimate]:
    return {one.cell.name: one.steps for one in reach(passages, clock.level)}
