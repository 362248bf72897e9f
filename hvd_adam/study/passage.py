"""What a run says of its first passage: the steps at which it met the target, as far as they are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isinf, isnan

from hvd_adam.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Passage:
    """First passage of one run: the target was met at a step in (low, high].

    Args:
        cell: name of the cell that the run belongs to.
        batch: global batch s = workers x local batch, samples a step.
        workers: workers that the batch was dealt to.
        seed: the run's seed; pairs runs of two studies.
        low: last evaluation that did not meet the target, steps, >= 0.
        high: first one that did, steps, > low; inf where the budget ended before: right-censored at low.
        diverged: the run never reaches. A competing event, not a censored run; high must be inf.

    Raises:
        ConfigError: the values contradict each other.

    >>> Passage("w4", 64, 4, 0, 100, 105).reached
    True
    """

    cell: str
    batch: int
    workers: int
    seed: int
    low: float
    high: float
    diverged: bool = False

    def __post_init__(self) -> None:
        if not (self.batch >= 1 and 0 <= self.low < self.high) or isinf(self.low) or isnan(self.high):
            raise ConfigError(
                found=f"cell {self.cell}, seed {self.seed}: batch {self.batch}, reached in ({self.low}, {self.high}]",
                why="a first passage needs a batch of at least 1 and 0 <= low < high",
                cure="collect the run again from its trace; a target met at step 0 leaves nothing to measure",
            )
        if self.diverged and not isinf(self.high):
            raise ConfigError(
                found=f"cell {self.cell}, seed {self.seed}: diverged, yet reached by step {self.high}",
                why="a run either reaches the target or never does",
                cure="count it as reached if the target was met before it diverged, else set high to inf",
            )

    @property
    def reached(self) -> bool:
        """Whether the target was met within the budget."""
        return not isinf(self.high)

    @property
    def censored(self) -> bool:
        """Whether the budget ended before the target was met, and the run had not diverged."""
        return isinf(self.high) and not self.diverged


@dataclass(frozen=True)
class Cell:
    """The runs of one cell, counted.

    Args:
        name, batch, workers: as in `Passage`.
        runs: all of them; reached + censored + diverged.
    """

    name: str
    batch: int
    workers: int
    runs: int
    reached: int
    censored: int
    diverged: int


def group(passages: Iterable[Passage]) -> dict[str, list[Passage]]:
    """Return the passages of each cell, cells in order of batch, then workers, then name.

    Raises:
        ConfigError: there are none; a cell has two batches; a seed comes twice in a cell.
    """
    found: dict[str, list[Passage]] = {}
    for passage in passages:
        found.setdefault(passage.cell, []).append(passage)
    if not found:
        raise ConfigError(
            found="no run has a result",
            why="there is nothing to analyse",
            cure="hvd-adam study run STUDY.yaml, or name the folder that holds the runs",
        )
    for name, runs in found.items():
        _consistent(name, runs)
    return dict(sorted(found.items(), key=lambda item: (item[1][0].batch, item[1][0].workers, item[0])))


def cells(passages: Iterable[Passage]) -> list[Cell]:
    """Return the counted cells, in order of batch."""
    return [_count(name, runs) for name, runs in group(passages).items()]


def _count(name: str, runs: Sequence[Passage]) -> Cell:
    reached = sum(run.reached for run in runs)
    diverged = sum(run.diverged for run in runs)
    return Cell(name, runs[0].batch, runs[0].workers, len(runs), reached, len(runs) - reached - diverged, diverged)


def _consistent(name: str, runs: Sequence[Passage]) -> None:
    batches = sorted({run.batch for run in runs})
    if len(batches) > 1:
        raise ConfigError(
            found=f"cell {name} holds runs of batch {batches[0]} and {batches[1]}",
            why="a cell is one point of the grid",
            cure="give each batch its own cell; runs of two studies may lie in one folder",
        )
    if len({run.seed for run in runs}) < len(runs):
        seen: set[int] = set()
        twice = next(run.seed for run in runs if run.seed in seen or seen.add(run.seed))  # type: ignore[func-returns-value]
        raise ConfigError(
            found=f"cell {name}: seed {twice} comes twice",
            why="the same run counted twice makes every interval too narrow",
            cure="remove one of the two run directories",
        )
