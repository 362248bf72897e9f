"""Does a cell reach the target, and in how many steps do those runs that do?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from scipy.special import betaincinv

from hvd_adam.study.contrast import Model
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.passage import Cell, Passage, cells
from hvd_adam.study.sample import sample


def share(count: int, runs: int, level: float = 0.95, what: str = "share") -> Estimate:
    """Return count / runs with the interval of Clopper and Pearson, which covers at least at its level for any n.

    >>> share(3, 3).low > 0.29
    True
    """
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, runs - count + 1, tail))
    high = 1.0 if count == runs else float(betaincinv(count + 1, runs - count, 1 - tail))
    estimate = count / runs if runs else nan
    return Estimate(estimate, low, high, level, runs, f"{what}: {count} of {runs} runs; Clopper-Pearson")


def measured(passages: Sequence[Passage]) -> list[Passage]:
    """Return the runs of the cells that have a finite mean: what is left to fit where some cells never reach.

    Raises:
        ConfigError: see `passage.group`.
    """
    known = Model(sample([passages])).known[0]
    names = {cell.name for cell, kept in zip(cells(passages), known, strict=True) if kept}
    return [run for run in passages if run.cell in names]


@dataclass(frozen=True, slots=True)
class Reach:
    """What one cell's runs did.

    Args:
        cell: the cell and its counts.
        reached: share of all runs that met the target within the budget.
        diverged: share of all runs that never will. The rest was censored: the budget ended, and nothing is known.
        steps: typical steps of those that reach: exp of the mean log T, which is the median where T is log-normal.
            Diverged runs are no part of it; open where the cell has no finite mean.
    """

    cell: Cell
    reached: Estimate
    diverged: Estimate
    steps: Estimate


def reach(passages: Sequence[Passage], level: float = 0.95) -> list[Reach]:
    """Return, for each cell in order of batch, the shares beside the steps; the spread is pooled over the cells."""
    counted = cells(passages)
    found = Model(sample([passages])).intervals(np.eye(len(counted)), level)
    result = []
    for j, cell in enumerate(counted):
        n = cell.reached + cell.censored
        text = "exp of the mean log T of the runs that reach; log-normal, one spread for all cells; profile likelihood"
        steps = found.factor(0, j, level, n, text)
        within = share(cell.reached, cell.runs, level, "met the target within the budget")
        never = share(cell.diverged, cell.runs, level, "diverged")
        result.append(Reach(cell, within, never, steps))
    return result
