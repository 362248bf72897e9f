"""The learning rates that tuning tried, and what picking adds to the slope's interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hvd_adam.config import Target
from hvd_adam.study.collect import Record
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.passage import Passage, cells
from hvd_adam.study.slope import slope
from hvd_adam.study.tuning import carried, conditional, pick, repeated


@dataclass(frozen=True)
class Tried:
    """One learning rate of one cell: runs that reached, runs made, and the steps of those that reach (None: none)."""

    reached: int
    made: int
    steps: Estimate | None


@dataclass(frozen=True)
class Picks:
    """How the learning rate of a cell was picked.

    Attributes:
        tried: by factor of the base lr.
        picked: the factor; None while it is open.
        spread: of log T that picking adds, from tuning repeated on resampled seeds; None where it cannot be had.
    """

    group: str
    batch: int
    tried: Mapping[float, Tried]
    picked: float | None
    spread: Estimate | None

    @property
    def at_edge(self) -> bool:
        """The best lies at an end of what was tried: a better one may lie beyond."""
        return self.picked in (min(self.tried), max(self.tried))


def picks(records: Sequence[Record], target: Target, picked: Mapping[str, float]) -> tuple[Picks, ...]:
    """One for each cell that was tuned, in the order of the grid."""
    by_group: dict[str, dict[float, list[Record]]] = {}
    for record in records:
        if record.cell.tunes:
            by_group.setdefault(record.cell.tunes, {}).setdefault(record.cell.factor, []).append(record)
    return tuple(_picks(group, by_factor, target, picked.get(group)) for group, by_factor in by_group.items())


def _picks(group: str, by_factor: Mapping[float, Sequence[Record]], target: Target, picked: float | None) -> Picks:
    trials = {
        factor: [passage for record in runs if (passage := record.passage(target)) is not None]
        for factor, runs in sorted(by_factor.items())
    }
    some = {factor: runs for factor, runs in trials.items() if runs}
    found = pick(some) if some else None
    tried = {
        factor: Tried(
            sum(p.reached for p in runs), len(by_factor[factor]), found.steps[factor] if found and runs else None
        )
        for factor, runs in trials.items()
    }
    seeds = {passage.seed for runs in trials.values() for passage in runs}
    spread = repeated(some) if len(some) == len(trials) and len(seeds) > 1 else None
    return Picks(group, next(iter(by_factor.values()))[0].cell.batch, tried, picked, spread)


def slope_with_picks(passages: Sequence[Passage], made: Sequence[Picks]) -> Estimate:
    """The slope, its interval widened by what each cell's pick adds; where that is not known, labelled conditional."""
    alone = slope(passages)
    spreads = {one.group: one.spread.estimate for one in made if one.spread is not None}
    counted = cells(passages)
    if not all(spreads.get(cell.name, -1) >= 0 for cell in counted):
        return conditional(alone)
    return carried(alone, [cell.batch for cell in counted], [spreads[cell.name] for cell in counted])
