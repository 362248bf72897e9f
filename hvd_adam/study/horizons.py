"""Theory mode: T at which the criterion comes down to the target, from one run for each horizon and seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hvd_adam.config import Target
from hvd_adam.errors import HvdAdamError
from hvd_adam.study.collect import CENSORED, REACHED, Record
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.horizon import Crossing, Endpoint, crossing, horizon_linear_up_to, horizon_slope
from hvd_adam.study.plan import Cell


@dataclass(frozen=True)
class HorizonCell:
    """The runs of one batch at all horizons.

    Attributes:
        ends: (horizon, seed, criterion at the end) of each run that has one.
        crossing: None where it cannot be had, and `why_not` says why.
    """

    cell: Cell
    ends: tuple[tuple[int, int, float], ...]
    crossing: Crossing | None
    why_not: str = ""


@dataclass(frozen=True)
class HorizonSeries:
    """Cells that differ in their scale and horizon alone.

    Attributes:
        slope: of log T on log batch; None where fewer than two batches have a T.
        up_to: the batch up to which it is linear; None where there are fewer than two batches, or none has a T.
    """

    label: str
    cells: tuple[HorizonCell, ...]
    slope: Estimate | None
    up_to: Estimate | None = None


def horizon_series(label: str, records: Sequence[Record], target: Target) -> HorizonSeries:
    """Fits and inverts the criterion of each batch, and the slope over them."""
    by_group: dict[str, list[Record]] = {}
    for record in records:
        by_group.setdefault(record.cell.group, []).append(record)
    found = sorted((_cell(runs, target) for runs in by_group.values()), key=lambda one: one.cell.batch)
    known = {one.cell.batch: one.crossing for one in found if one.crossing is not None}
    whole = len(known) == len(found) > 1 and all(math.isfinite(c.steps.estimate) for c in known.values())
    up_to = horizon_linear_up_to(known) if len(known) == len(found) > 1 else None
    return HorizonSeries(label, tuple(found), horizon_slope(known) if whole else None, up_to)


def _cell(records: Sequence[Record], target: Target) -> HorizonCell:
    cell = records[0].cell
    ends = []
    for record in records:
        value = record.evaluations[-1][1].get(target.measure, math.nan) if record.evaluations else math.nan
        if record.outcome in (REACHED, CENSORED) and math.isfinite(value) and record.cell.horizon:
            ends.append((record.cell.horizon, record.run.seed, value))
    ends.sort()
    if target.at_most is None:
        return HorizonCell(cell, tuple(ends), None, f"{target} does not fall with T")
    try:
        found = crossing([Endpoint(horizon, value, seed) for horizon, seed, value in ends], target.at_most)
    except HvdAdamError as error:
        return HorizonCell(cell, tuple(ends), None, f"{error.found}: {error.why}")
    return HorizonCell(cell, tuple(ends), found)
