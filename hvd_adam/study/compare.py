"""Two studies compared: did my change make it worse?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, nan
from typing import Literal

import numpy as np
from scipy.special import bdtr

from hvd_adam.errors import ConfigError
from hvd_adam.study.contrast import Model
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.figures import listed
from hvd_adam.study.linearity import Test, lack_of_fit
from hvd_adam.study.passage import Passage, group
from hvd_adam.study.sample import Sample, Study

Outcome = Literal[
    "fewer steps",
    "more steps",
    "more steps in some cells",
    "differs by cell",
    "no difference shown",
    "not enough evidence",
]


@dataclass(frozen=True)
class Comparison:
    """B against A.

    Args:
        cells: ratio of B's steps to A's, by cell.
        overall: their geometric mean over the cells that have one.
        alike: test of one ratio for all cells.
        reach: exact test that as many pairs reach under A alone as under B alone.
        pairs: pairs of runs with one seed, in which neither diverged.
        alone: cells of one study only.
        worse: cells in which B needs more steps, by intervals for all cells at once: those without a ratio, which B
            does not reach in time, and those with one where the ratios are told apart at 1 %.
        better: the same of fewer steps.
        lost: cells that A reaches in some run, and B in none.
    """

    cells: dict[str, Estimate]
    overall: Estimate
    alike: Test
    reach: Test
    pairs: int
    alone: tuple[str, ...]
    worse: tuple[str, ...]
    better: tuple[str, ...]
    lost: tuple[str, ...]

    @property
    def outcome(self) -> Outcome:
        """The one verdict; "not enough evidence" where the overall interval is open, and no cell decides."""
        if self.worse and self.better:
            return "differs by cell"
        decided = not self.overall.open and not self.overall.covers(1.0)
        if decided and self.overall.estimate > 1:
            return "more steps"
        if self.worse:
            return "more steps in some cells"
        if self.overall.open:
            return "not enough evidence"
        return "fewer steps" if decided else "no difference shown"

    @property
    def is_worse(self) -> bool:
        """Whether B needs more steps, in all or some cells, or reaches the target less often."""
        more: tuple[Outcome, ...] = ("more steps", "more steps in some cells", "differs by cell")
        return self.outcome in more or (self.reach.rejects() and self.reach.statistic > 0)

    @property
    def is_unknown(self) -> bool:
        """Whether B may be worse for all that is known."""
        return not self.is_worse and (self.outcome == "not enough evidence" or bool(self.lost))

    def __str__(self) -> str:
        o = self.overall
        figures = (
            f"ratio {o.estimate:.3f} ({100 * o.level:g} % interval {o.low:.3f} to {o.high:.3f}, {self.pairs} pairs)"
        )
        said = {
            "fewer steps": "B needs fewer steps: " + figures,
            "more steps": "B needs more steps: " + figures,
            "more steps in some cells": f"B needs more steps in {listed(list(self.worse))}; overall "
            + ("no cell has a ratio" if self.overall.open else figures),
            "differs by cell": "B needs more steps in some cells and fewer in others; overall " + figures,
            "no difference shown": "no difference shown: " + figures,
            "not enough evidence": f"not enough evidence: {self.pairs} pairs of runs share a seed and tell a ratio",
        }[self.outcome]
        if self.reach.rejects():
            said += f"; and they do not reach the target equally often (p = {self.reach.p:.2g})"
        if self.lost:
            said += f"; in {listed(list(self.lost))} A reaches the target and B never does"
        return said


def compare(a: Study, b: Study, level: float = 0.95) -> Comparison:
    """Compare the steps to the target of two studies, cell by cell, runs paired by seed.

    Each pair gives log T_B - log T_A. Both known to an interval, the difference is known about the difference of the
    middles, to an interval with the rounding error of both; one censored, it is bounded on one side; both, the pair
    says nothing. A pair in which a run diverged has no ratio and counts for `reach`. The differences are normal about a
    mean for each cell, as log T is in `contrast`.

    Raises:
        ConfigError: a study is empty, or they have no cell or no seed in common.
    """
    ours, theirs = group(a), group(b)
    shared = [name for name in ours if name in theirs]
    both = {name: _pairs(ours[name], theirs[name]) for name in shared}
    if not any(both.values()):
        what = "no seed of a cell" if shared else "no cell"
        raise ConfigError(
            f"the two studies have {what} in common",
            "runs are paired by cell and seed",
            "compare studies that were made from one grid with one list of seeds",
        )
    both = {name: pairs for name, pairs in both.items() if pairs}
    data = _differences(both)
    model = Model(data)
    k = len(both)
    each = model.intervals(np.eye(k), level)
    known = model.known[0]
    text = "ratio of steps B / A, pairs of one seed, log-normal; profile likelihood"
    cells = {name: each.factor(0, j, level, len(pairs), text) for j, (name, pairs) in enumerate(both.items())}
    n = sum(not (x.diverged or y.diverged) for pairs in both.values() for x, y in pairs)
    overall = Estimate(nan, 0.0, inf, level, n, "no cell has a ratio")
    if known.any():
        mean = model.intervals((known / known.sum())[None], level)
        overall = mean.factor(0, 0, level, n, f"geometric mean over {int(known.sum())} cells of the {text}")
    alike = lack_of_fit(data, np.ones((k, 1)), None, 1, "one ratio for all cells against one for each")[0]
    alone = tuple(sorted(set(ours).symmetric_difference(theirs)))
    sure = model.intervals(np.eye(k), 1 - (1 - level) / k)
    decides = ~known | alike.rejects(0.01)
    worse, better = (
        tuple(name for name, is_so in zip(both, far & decides, strict=True) if is_so)
        for far in (sure.low[0] > 0, sure.high[0] < 0)
    )
    lost = tuple(
        name
        for name, pairs in both.items()
        if any(one.reached for one, _ in pairs) and not any(other.reached for _, other in pairs)
    )
    return Comparison(cells, overall, alike, _reaches(both), n, alone, worse, better, lost)


def _pairs(a: list[Passage], b: list[Passage]) -> list[tuple[Passage, Passage]]:
    seeds = {run.seed: run for run in b}
    return [(run, seeds[run.seed]) for run in a if run.seed in seeds]


def _differences(both: Mapping[str, list[tuple[Passage, Passage]]]) -> Sample:
    merged: Counter[tuple[int, float, float]] = Counter()
    for j, pairs in enumerate(both.values()):
        for a, b in pairs:
            ends = None if a.diverged or b.diverged else _difference(a, b)
            if ends is not None:
                merged[j, round(ends[0], 12), round(ends[1], 12)] += 1
    k = len(both)
    batches = np.array([pairs[0][0].batch for pairs in both.values()])
    rows = np.array(list(merged), float).reshape(-1, 3)
    weight = np.array(list(merged.values()), float)
    return Sample(rows[None, :, 1], rows[None, :, 2], weight[None], np.eye(k)[rows[:, 0].astype(int)], batches)


def _difference(a: Passage, b: Passage) -> tuple[float, float] | None:
    if not (a.reached or b.reached):
        return None
    if not a.reached:
        return -inf, float(_middle(b)[0] - np.log(max(a.low, 0.5)))
    if not b.reached:
        return float(np.log(max(b.low, 0.5)) - _middle(a)[0]), inf
    (x, wide_x), (y, wide_y) = _middle(a), _middle(b)
    # One interval whose rounding variance is the sum of both: width^2 / 12 each.
    half = np.hypot(wide_x, wide_y) / 2
    return float(y - x - half), float(y - x + half)


def _middle(run: Passage) -> tuple[float, float]:
    """Return the middle and the width of a passage in log steps; low 0 counts as half a step."""
    low, high = np.log(max(run.low, min(0.5, run.high / 2))), np.log(run.high)
    return 0.5 * (low + high), high - low


def _reaches(both: Mapping[str, list[tuple[Passage, Passage]]]) -> Test:
    only_a = sum(a.reached and not b.reached for pairs in both.values() for a, b in pairs)
    only_b = sum(b.reached and not a.reached for pairs in both.values() for a, b in pairs)
    odd = only_a + only_b
    p = min(1.0, 2 * float(bdtr(min(only_a, only_b), odd, 0.5))) if odd else 1.0
    return Test(
        "A alone reaches as often as B alone", float(only_a - only_b), (odd, inf), p, sum(map(len, both.values()))
    )
