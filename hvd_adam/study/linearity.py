"""Is it linear, and up to where?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log, nan

import numpy as np
from scipy.special import fdtrc, ndtri, stdtrit

from hvd_adam.study.contrast import Intervals, Model
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.lognormal import fit
from hvd_adam.study.passage import cells
from hvd_adam.study.sample import Sample, Study, sample
from hvd_adam.study.slope import line, slope, weights

EXCESS = 1.2  # samples at the end of the linear range over those of its start: Zhang 2024's 20 %


@dataclass(frozen=True, slots=True)
class Test:
    """A likelihood-ratio test.

    Args:
        question: what is tested against what.
        statistic: F with `df`; nan where the data cannot tell.
        df: numerator and denominator.
        p: p value; nan where the data cannot tell.
        n: runs.
    """

    question: str
    statistic: float
    df: tuple[float, float]
    p: float
    n: int

    __test__ = False  # no test case of pytest's

    def rejects(self, at: float = 0.05) -> bool:
        """Return whether the test rejects at this size; never where it cannot tell."""
        return self.p < at


def slope_is(study: Study, value: float = -1.0) -> Test:
    """Test the slope against `value`, cell means free: rejects where the slope's interval misses it.

    F = (n - p) (exp(W / n) - 1), W the likelihood ratio of the named contrast, as in `contrast`.

    Raises:
        ConfigError: fewer than two batch sizes.
    """
    data = sample([study])
    w = weights(data.batches)
    model = Model(data)
    df = float(model.df[0])
    question = f"slope {value:g} against any slope, cell means free"
    if not model.valid[0] or df < 1:
        return Test(question, nan, (1, df), nan, int(model.runs[0]))
    statistic = float(model.t(w[None], np.array([value]))[0, 0]) ** 2
    return Test(question, statistic, (1, df), float(fdtrc(1, df, statistic)), int(model.runs[0]))


def line_fits(study: Study) -> Test:
    """Test a straight line of log T on log s against free cell means: rejects where the curve bends."""
    return lines_fit([study])[0]


def lines_fit(studies: Sequence[Study]) -> list[Test]:
    """Return `line_fits` of each of many studies of one design."""
    data = sample(studies)
    weights(data.batches)
    return lack_of_fit(data, line(data.batches), None, 2, "straight line against free cell means")


def lack_of_fit(data: Sample, design: np.ndarray, offset: np.ndarray | None, used: int, question: str) -> list[Test]:
    """Test cell means offset + design @ coefficients against free ones.

        F = (exp(W / n) - 1) (n - k) / (k - used),   n the runs that reached, k the cells with a finite mean

    Args:
        used: parameters of the tested curve, those in `offset` (B, k) included.
    """
    free = Model(data)
    held = fit(data.only(free.known), design, offset)
    ratio = np.maximum(2 * (free.fit.loglik - held.loglik), 0)
    result = []
    for b, k in enumerate(free.p.tolist()):
        top, below = k - used, float(free.uncensored[b]) - k
        statistic = p = nan
        if top >= 1 and below >= 1:
            statistic = float(np.expm1(min(ratio[b] / free.uncensored[b], 300.0))) * below / top
            p = float(fdtrc(top, below, statistic))
        result.append(Test(question, statistic, (top, below), p, int(free.runs[b])))
    return result


@dataclass(frozen=True)
class Linear:
    """How far linear speed-up goes.

    Args:
        up_to: see `linear_up_to`.
        excess: for each cell, samples to the target over those of the pooled start.
        slope: over all cells.
        from_one: test of slope -1.
        bends: test of the straight line.
    """

    up_to: Estimate
    excess: dict[str, Estimate]
    slope: Estimate
    from_one: Test
    bends: Test


def linearity(study: Study, level: float = 0.95, picks: Mapping[str, float] | None = None) -> Linear:
    """Return slope, tests and range of linear speed-up together; `picks` widens range and excess, not the slope.

    Raises:
        ConfigError: fewer than two batch sizes.
    """
    up_to = linear_up_to(study, level, picks)
    return Linear(up_to, excess(study, level, picks), slope(study, level=level), slope_is(study), line_fits(study))


def linear_up_to(study: Study, level: float = 0.95, picks: Mapping[str, float] | None = None) -> Estimate:
    """Return up to which batch scaling is linear.

    The start is the first third of the cells that have a finite mean, two at least where there are three; its samples
    are their geometric mean. So one noisy first point cannot flatter the rest. A batch passes with

        s T(s)  <=  1.2 x samples of the start,

    and the estimate is the largest that passes, wherever smaller ones failed. The interval's lower end is the largest
    batch shown to pass, allowing for the choice among them (Bonferroni); its upper end is the last before all larger
    ones are shown to fail, inf where the largest of the study is not.

    Args:
        picks: where learning rates were picked by tuning, the spread of log T that this adds, by cell. A pick is shared
            by the seeds of its cell: it moves a mean, and no number of seeds averages it away.

    Raises:
        ConfigError: fewer than two batch sizes.
    """
    added = [(picks or {}).get(cell.name, 0.0) for cell in cells(study)]
    return linear_up_tos([study], level, np.array(added))[0]


def linear_up_tos(studies: Sequence[Study], level: float = 0.95, picks: np.ndarray | None = None) -> list[Estimate]:
    """Return `linear_up_to` of each of many studies of one design; `picks` in order of the cells, (k,)."""
    data = sample(studies)
    weights(data.batches)
    added = np.zeros(len(data.batches)) if picks is None else picks
    model = Model(data)
    result: list[Estimate] = [Estimate(nan, 0.0, inf, level, 0, "no cell has a finite mean")] * len(studies)
    for pattern in np.unique(model.known, axis=0):  # the same cells have a finite mean: the same start
        if pattern.any():
            where = np.flatnonzero((model.known == pattern).all(1))
            part = model if len(where) == len(studies) else Model(data.take(where))
            for b, found in zip(where, _up_to(part, pattern, level, added), strict=True):
                result[b] = found
    return result


def pooled_start(known: np.ndarray) -> np.ndarray:
    """Return the cells that are pooled as the start, of those with a finite mean, mask (k,): see `linear_up_to`."""
    cells_known = np.flatnonzero(known)
    return cells_known[: 1 if len(cells_known) < 3 else max(2, len(cells_known) // 3)]


def _against_start(start: np.ndarray, log_batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return contrasts and shifts: log excess of samples = contrasts @ means + shifts."""
    contrasts = np.eye(len(log_batch))
    contrasts[:, start] -= 1 / len(start)
    return contrasts, contrasts @ log_batch


def _up_to(model: Model, known: np.ndarray, level: float, picks: np.ndarray) -> list[Estimate]:
    batches, start = model.data.batches, pooled_start(known)
    contrasts, shift = _against_start(start, model.data.log_batch)
    judged = np.arange(start[0], len(batches))
    contrasts, bar = contrasts[judged], log(EXCESS) - shift[judged]
    estimate = model.fit.coefficients @ contrasts.T
    passes = (estimate <= bar) & known[judged]
    t = _with_picks(model.t(contrasts, bar), bar - estimate, np.sqrt(contrasts**2 @ picks**2), known[judged])
    df = np.maximum(model.df, 1)[:, None]
    sure = (t >= stdtrit(df, 1 - (1 - level) / 2 / len(judged))) & known[judged]
    possible = ~(t < -stdtrit(df, 0.5 + level / 2))
    method = (
        f"largest batch with at most {100 * (EXCESS - 1):.0f} % more samples than the pooled start (batches "
        f"{', '.join(str(b) for b in batches[start])}); profile likelihood, cell means free"
    )
    method += "; spread of the picks carried" if picks.any() else ""
    result = []
    for b in range(len(estimate)):
        last = _last(possible[b])
        high = inf if last == len(judged) - 1 else float(batches[judged[last]])
        best, low = (float(batches[judged[_last(a[b])]]) for a in (passes, sure))
        result.append(Estimate(best, low, high, level, int(model.runs[b]), method))
    return result


def _with_picks(t: np.ndarray, away: np.ndarray, added: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return t of contrasts that lie `away` from their bar, the spread that picks add joined in squares.

    t is away / error, so the error becomes hypot(away / t, added). A cell without a finite mean has no such error: if
    picks add to it, nothing is shown of it.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        joined = t / np.sqrt(1 + np.where(away == 0, 0, t * added / away) ** 2)
    return np.where(added == 0, t, np.where(known, np.nan_to_num(joined), 0.0))


def _last(passes: np.ndarray) -> int:
    # One cell of the start passes whatever the data say: the least of some numbers is at most their mean.
    return int(np.flatnonzero(passes)[-1]) if passes.any() else 0


def excess(study: Study, level: float = 0.95, picks: Mapping[str, float] | None = None) -> dict[str, Estimate]:
    """Return, for each cell by name, samples to the target over those of the pooled start of `linear_up_to`."""
    data = sample([study])
    model = Model(data)
    start = pooled_start(model.known[0])
    if not start.size:
        return {}
    contrasts, shift = _against_start(start, data.log_batch)
    found = model.intervals(contrasts, level)
    text = f"samples over those of the pooled start (batches {', '.join(str(b) for b in data.batches[start])})"
    n, method, counted = int(model.runs[0]), text + "; profile likelihood", cells(study)
    added = np.array([(picks or {}).get(cell.name, 0.0) for cell in counted])
    method += "; spread of the picks carried" if added.any() else ""
    more = float(ndtri(0.5 + level / 2)) * np.sqrt(contrasts**2 @ added**2)
    known = np.isfinite(found.estimate)
    low = np.where(known, found.estimate - np.hypot(found.estimate - found.low, more), found.low - more)
    high = np.where(known, found.estimate + np.hypot(found.high - found.estimate, more), found.high + more)
    wider = Intervals(found.estimate, low, high)
    return {cell.name: wider.factor(0, j, level, n, method, float(shift[j])) for j, cell in enumerate(counted)}


def ideal(study: Study, level: float = 0.95) -> Estimate | None:
    """Return the samples to the target that linear speed-up keeps: their geometric mean over the pooled start.

    The ideal line is ideal / batch. None where no cell has a finite mean.
    """
    data = sample([study])
    model = Model(data)
    start = pooled_start(model.known[0])
    if not start.size:
        return None
    weight = np.zeros((1, len(data.batches)))
    weight[0, start] = 1 / len(start)
    text = f"geometric mean of samples to the target over batches {', '.join(str(b) for b in data.batches[start])}"
    method = text + "; profile likelihood, cell means free"
    found = model.intervals(weight, level)
    return found.factor(0, 0, level, int(model.runs[0]), method, float(weight[0] @ data.log_batch))


def efficiency(value: Estimate) -> Estimate:
    """Return the algorithmic efficiency that belongs to an excess of samples: its reciprocal, 1 is linear."""
    low, high = (0.0 if value.high == inf else 1 / value.high), (inf if value.low <= 0 else 1 / value.low)
    return Estimate(1 / value.estimate, low, high, value.level, value.n, "1 / (" + value.method + ")")


def percent_fewer(local: Estimate) -> Estimate:
    """Return how many per cent fewer steps doubling the batch buys at a local slope, 100 (1 - 2^slope)."""
    value, low, high = (100 * (1 - 2 ** min(v, 1000.0)) for v in (local.estimate, local.high, local.low))
    return Estimate(value, low, high, local.level, local.n, "per cent fewer steps for a doubling; " + local.method)
