"""The learning rates that tuning tried, and what picking adds to the slope's interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hvd_adam.config import Target
from hvd_adam.study.collect import Record
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.linearity import Linear, linearity
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


def spreads(made: Sequence[Picks], passages: Sequence[Passage]) -> dict[str, float] | None:
    """What picking adds to log T, by cell; None where that is not known of every cell with runs."""
    found = {one.group: one.spread.estimate for one in made if one.spread is not None and one.spread.estimate >= 0}
    names = [cell.name for cell in cells(passages)]
    return {name: found[name] for name in names} if all(name in found for name in names) else None


def slope_with_picks(passages: Sequence[Passage], added: Mapping[str, float] | None) -> Estimate:
    """The slope, its interval widened by what each cell's pick adds; where that is not known, labelled conditional."""
    alone = slope(passages)
    if added is None:
        return conditional(alone)
    counted = cells(passages)
    return carried(alone, [cell.batch for cell in counted], [added[cell.name] for cell in counted])


def linearity_with_picks(passages: Sequence[Passage], added: Mapping[str, float] | None) -> Linear:
    """`linearity` with what picking adds in slope, range and the excess of each cell, or labelled conditional."""
    found = linearity(passages, picks=added)
    if added is None:
        over = {name: conditional(one) for name, one in found.excess.items()}
        return replace(found, slope=conditional(found.slope), up_to=conditional(found.up_to), excess=over)
    return replace(found, slope=slope_with_picks(passages, added))
