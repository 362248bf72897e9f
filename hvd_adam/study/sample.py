"""Passages as arrays, many studies of one design at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hvd_adam.study.passage import Cell, Passage, cells, group

Study = Sequence[Passage]


@dataclass(frozen=True)
class Sample:
    """The runs of B studies that have the same cells, in order of batch.

    Args:
        low, high: log T lies in (low, high], (B, n); -inf and inf where open; equal where T is known exactly.
        weight: runs that a row stands for, (B, n); 0 where a study has fewer rows than another. Diverged runs have no T
            and no row.
        member: 1 where row i belongs to cell j, (n, k).
        batches: global batch of each cell, (k,).
    """

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    member: np.ndarray
    batches: np.ndarray

    @property
    def log_batch(self) -> np.ndarray:
        """log s of each cell, (k,)."""
        return np.log(self.batches)

    def take(self, index: np.ndarray) -> Sample:
        """Return the studies of that index, which may name one several times."""
        return replace(self, low=self.low[index], high=self.high[index], weight=self.weight[index])

    def only(self, chosen: np.ndarray) -> Sample:
        """Return the studies with all runs outside the chosen cells, (B, k), taken out."""
        return replace(self, weight=self.weight * (chosen.astype(float) @ self.member.T))


def sample(studies: Sequence[Study]) -> Sample:
    """Return the studies as arrays, equal intervals of a cell merged into one weighted row.

    Raises:
        ConfigError: a study is empty or contradicts itself, see `passage.group`.
        ValueError: the studies' cells differ in batch.
    """
    tables = [_merged(study) for study in studies]
    batches = tables[0][0]
    if any(table[0] != batches for table in tables):
        raise ValueError("studies that are analysed together must have the same cells")
    sizes = [max(len(table[1][j]) for table in tables) for j in range(len(batches))]
    begin = np.concatenate([[0], np.cumsum(sizes)])
    shape = (len(tables), int(begin[-1]))
    low, high, weight = np.zeros(shape), np.ones(shape), np.zeros(shape)
    for i, (_, merged) in enumerate(tables):
        for j, runs in enumerate(merged):
            if runs:
                at = slice(begin[j], begin[j] + len(runs))
                bounds = np.array(list(runs))
                low[i, at], high[i, at], weight[i, at] = bounds[:, 0], bounds[:, 1], list(runs.values())
    with np.errstate(divide="ignore"):
        low, high = np.where(weight > 0, np.log(low), 0), np.log(high)
    return Sample(
        low, np.where(weight > 0, high, 1), weight, np.repeat(np.eye(len(batches)), sizes, 0), np.array(batches)
    )


def _merged(study: Study) -> tuple[list[int], list[dict[tuple[float, float], int]]]:
    found: list[dict[tuple[float, float], int]] = []
    batches = []
    for runs in group(study).values():
        batches.append(runs[0].batch)
        merged: dict[tuple[float, float], int] = {}
        for run in runs:
            if not run.diverged:
                merged[run.low, run.high] = merged.get((run.low, run.high), 0) + 1
        found.append(merged)
    return batches, found


def one(study: Study) -> tuple[Sample, list[Cell]]:
    """Return one study as arrays, and its cells."""
    return sample([study]), cells(study)
