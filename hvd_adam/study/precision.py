"""How wide will the slope's interval be, and how many seeds make it as narrow as is wanted? Said by `study plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from hvd_adam.errors import ConfigError
from hvd_adam.study.analysis import labels, on_axis
from hvd_adam.study.collect import collect
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.figures import figure, percent
from hvd_adam.study.folder import Folder
from hvd_adam.study.passage import Passage
from hvd_adam.study.plan import Cell, Plan
from hvd_adam.study.power import USUAL_SPREAD, seeds_needed, slope_width, spread
from hvd_adam.terminal import plural

WANTED = 0.2  # width of the slope's interval, unless asked for another


@dataclass(frozen=True)
class Precision:
    """Of one series: cells that differ in their scale alone.

    Args:
        label: what its cells share and other series do not.
        seeds: runs a cell, as planned.
        spread: of log T between seeds: measured in the runs that have ended; None where it had to be assumed.
        censored: share of those runs that their budget ended.
        width: of the slope's interval, as planned; None with a single seed.
        wanted: width that is wanted.
        needed: seeds a cell for that; None where 10,000 are not enough.
        at_most: the same at the upper end of the spread's interval; None where that is open, or assumed.
    """

    label: str
    seeds: int
    spread: Estimate | None
    censored: float
    width: float | None
    wanted: float
    needed: int | None
    at_most: int | None

    def __str__(self) -> str:
        name = f"{self.label}: " if self.label else ""
        known = f"{USUAL_SPREAD:g}, assumed: no cell has two runs yet that reached"
        if self.spread is not None:
            known = f"{figure(self.spread, lambda value: f'{value:.2g}')}, measured"
            known += f", {percent(self.censored)} of the runs censored" if self.censored else ""
        planned = "no interval from one seed a cell"
        if self.width is not None:
            planned = (
                f"the slope's interval will be about {self.width:.2g} wide with {plural(self.seeds, 'seed')} a cell"
            )
        asked = f"{self.wanted:g} takes " + ("more than 10,000 seeds" if self.needed is None else str(self.needed))
        most = f" (up to {self.at_most} at the upper end of the spread)" if self.at_most else ""
        return f"{name}{planned}; {asked}{most}; spread of log T between seeds {known}"


def precision(study: StudyConfig, made: Plan, folder: Folder, wanted: float = WANTED) -> list[Precision]:
    """One for each series with two positions or more; none in theory mode, whose T has no spread between seeds.

    The spread is that of the runs in the folder that have ended, tuning left out, else `USUAL_SPREAD`. What picking
    learning rates adds is not in it.

    Raises:
        ConfigError: a width that is not above 0.
    """
    if not wanted > 0:
        raise ConfigError(f"--width {wanted:g}", "an interval of no width needs no end of seeds", "ask for --width 0.2")
    if study.mode == "theory":
        return []
    grouped: dict[str, list[Cell]] = {}
    label = labels(made.cells)
    for cell in made.cells:
        if not cell.refused:
            grouped.setdefault(label[cell.name], []).append(cell)
    records = [record for record in collect(study, made, folder) if not record.cell.tunes]
    passages = [p for record in records if (p := record.passage(study.targets[0])) is not None]
    found = (_of(label, cells, passages, study, wanted) for label, cells in grouped.items())
    return [one for one in found if one is not None]


def _of(
    label: str, cells: Sequence[Cell], passages: Sequence[Passage], study: StudyConfig, wanted: float
) -> Precision | None:
    axis = "workers" if len({cell.batch for cell in cells}) == 1 else "batch"
    places = [cell.batch if axis == "batch" else cell.workers for cell in cells]
    if len(set(places)) < 2:
        return None
    own = {cell.group for cell in cells}
    ended = [on_axis(passage, axis) for passage in passages if passage.cell in own]
    measured = _spread(ended)
    censored = sum(passage.censored for passage in ended) / len(ended) if measured else 0.0
    sigma, seeds, grid = (measured.estimate if measured else USUAL_SPREAD), len(study.seeds), study.resolution - 1

    def needed(spread_of_runs: float) -> int | None:
        try:
            return seeds_needed(places, wanted, spread_of_runs, grid=grid, censored=censored)
        except ConfigError:
            return None

    width = slope_width(places, seeds, sigma, grid=grid, censored=censored) if seeds > 1 else None
    most = needed(measured.high) if measured else None
    return Precision(label, seeds, measured, censored, width, wanted, needed(sigma), most)


def _spread(passages: Sequence[Passage]) -> Estimate | None:
    if not passages:
        return None
    found = spread(passages)
    return found if isfinite(found.estimate) and isfinite(found.high) and found.estimate > 0 else None
