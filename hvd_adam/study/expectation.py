"""A gate: does a study meet what was expected of it, fail it, or not have the evidence to say?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, isfinite
from typing import Literal

from hvd_adam.study.estimate import Estimate
from hvd_adam.study.linearity import linear_up_to
from hvd_adam.study.passage import cells
from hvd_adam.study.reach import share
from hvd_adam.study.sample import Study
from hvd_adam.study.seconds import product
from hvd_adam.study.slope import slope

Outcome = Literal["met", "not met", "not enough evidence"]
EXIT = {"met": 0, "not met": 5, "not enough evidence": 6}
MOST_SEEDS = 1000


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is expected. Each part that is None is not checked.

    Args:
        slope: the range that the slope of log T on log s must lie in.
        linear_up_to: the batch up to which scaling must be linear.
        reach: least share of runs, in every cell, that meet the target within the budget.
        time_ratio: (cell, base cell, largest allowed ratio of their seconds to target).
    """

    slope: tuple[float, float] | None = None
    linear_up_to: int | None = None
    reach: float | None = None
    time_ratio: tuple[str, str, float] | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """One expectation, judged.

    Args:
        what: the expectation in words.
        found: the estimate that decided.
        outcome: met where the interval lies inside, not met where it lies outside, else not enough evidence.
        seeds_more: where there is not enough evidence, how many more seeds a cell would probably give it; None where
            more seeds would hardly help, since the estimate lies at the limit or outside.
    """

    what: str
    found: Estimate
    outcome: Outcome
    seeds_more: int | None = None

    def __str__(self) -> str:
        text = f"{self.what}: {self.outcome}; found {self.found}"
        if self.outcome == "not enough evidence":
            text += f"; about {self.seeds_more} more seeds a cell" if self.seeds_more else "; more seeds may not tell"
        return text


def judge(
    study: Study,
    expected: Expectation,
    seconds: Mapping[str, Estimate] | None = None,
    picks: Mapping[str, float] | None = None,
) -> list[Judgement]:
    """Return a judgement for each part of the expectation.

    Args:
        seconds: to the target, by cell (`seconds.time_to_target`); needed for a time ratio.
        picks: what picking learning rates adds to log T, by cell, see `linearity.linear_up_to`.

    Raises:
        ConfigError: fewer than two batch sizes, where slope or linearity are expected.
    """
    seeds = max(cell.runs for cell in cells(study))
    result = []
    if expected.slope is not None:
        low, high = expected.slope
        result.append(within(f"slope in [{low:g}, {high:g}]", slope(study), low, high, seeds))
    if expected.linear_up_to is not None:
        result.append(_linear(study, expected.linear_up_to, picks))
    if expected.reach is not None:
        result += [_reach(cell.name, cell.reached, cell.runs, expected.reach) for cell in cells(study)]
    if expected.time_ratio is not None:
        name, base, most = expected.time_ratio
        what = f"time to target of {name} at most {most:g} times that of {base}"
        result.append(within(what, _ratio(seconds or {}, name, base), -inf, most, seeds))
    return result


def _reach(name: str, reached: int, runs: int, least: float) -> Judgement:
    """Judge the share of a cell's runs that reach; how many seeds it takes is tried out, at the same share."""

    def judged(k: int, n: int) -> Judgement:
        found = share(k, n, what="met the target within the budget")
        what = f"cell {name}: at least {100 * least:g} % of the runs reach the target"
        return within(what, found, least, inf, n, k == n and least == 1)

    now = judged(reached, runs)
    if now.outcome != "not enough evidence":
        return now
    told = (
        more
        for more in range(1, MOST_SEEDS + 1)
        if judged(round((runs + more) * reached / runs), runs + more).outcome != "not enough evidence"
    )
    return replace(now, seeds_more=next(told, None))


def outcome(judgements: Sequence[Judgement]) -> Outcome:
    """Return the outcome of all: the worst, "not met" before "not enough evidence"."""
    found = {judgement.outcome for judgement in judgements}
    return "not met" if "not met" in found else "not enough evidence" if "not enough evidence" in found else "met"


def within(what: str, found: Estimate, low: float, high: float, seeds: int, sure: bool = False) -> Judgement:
    """Judge whether an estimate lies in [low, high].

    Args:
        seeds: runs a cell that it rests on.
        sure: met whatever the interval says: nothing better could have been seen.
    """
    if sure or (low <= found.low and found.high <= high):
        return Judgement(what, found, "met")
    if found.high < low or found.low > high:
        return Judgement(what, found, "not met")
    return Judgement(what, found, "not enough evidence", _seeds_more(found, low, high, seeds))


def _seeds_more(found: Estimate, low: float, high: float, seeds: int) -> int | None:
    """Return the seeds that shrink the interval, as one over the root of their number, until it leaves a limit out."""
    if not isfinite(found.estimate) or found.open:
        return None
    factors = []
    for limit in (low, high):
        if isfinite(limit):
            away = abs(found.estimate - limit)
            reach = found.estimate - found.low if limit < found.estimate else found.high - found.estimate
            if away <= 0:
                return None
            factors.append(reach / away)
    more = ceil(seeds * (max(factors) ** 2 - 1) - 1e-9)  # a whole number stays one
    return max(more, 1) if more <= MOST_SEEDS else None


def slope_within(study: Study, low: float, high: float, found_of: Callable[[Study], Estimate]) -> Judgement:
    """Judge a slope part of whose interval more seeds do not narrow: how many it takes is tried out.

    Args:
        found_of: the slope of a study, with all that its interval has to hold.
    """
    what = f"slope in [{low:g}, {high:g}]"
    judged = within(what, found_of(study), low, high, 1)
    if judged.seeds_more is None:
        return judged
    more = _seeds_to_tell(study, lambda runs: within(what, found_of(runs), low, high, 1).outcome)
    return replace(judged, seeds_more=more)


def _linear(study: Study, wanted: int, picks: Mapping[str, float] | None) -> Judgement:
    found, what = linear_up_to(study, picks=picks), f"linear up to batch {wanted} at least"
    judged = reaches(what, found, wanted)
    if judged.outcome == "not enough evidence":
        # The interval's ends are batches: seeds are doubled until a study of the same means would tell.
        more = _seeds_to_tell(study, lambda runs: reaches(what, linear_up_to(runs, picks=picks), wanted).outcome)
        return replace(judged, seeds_more=more)
    return judged


def reaches(what: str, found: Estimate, wanted: int) -> Judgement:
    """Judge whether the linear range goes up to a batch; its interval's ends are batches."""
    if found.low >= wanted:
        return Judgement(what, found, "met")
    return Judgement(what, found, "not met" if found.high < wanted else "not enough evidence")


def _seeds_to_tell(study: Study, told: Callable[[Study], Outcome]) -> int | None:
    """Return how many seeds more a study of the same means needs until it tells; None where 15 times more do not."""
    seeds = max(cell.runs for cell in cells(study))
    for times in (2, 3, 4, 6, 8, 12, 16):
        copies = [replace(run, seed=run.seed * times + copy) for run in study for copy in range(times)]
        if told(copies) != "not enough evidence":
            return seeds * (times - 1)
    return None


def _ratio(seconds: Mapping[str, Estimate], name: str, base: str) -> Estimate:
    if name not in seconds or base not in seconds:
        missing = name if name not in seconds else base
        return Estimate(float("nan"), -inf, inf, 0.95, 0, f"cell {missing} has no time to target")
    over = seconds[base]
    inverse = Estimate(
        1 / over.estimate, 0.0 if over.high == inf else 1 / over.high, inf if over.low <= 0 else 1 / over.low,
        over.level, over.n, over.method,
    )  # fmt: skip
    return product(seconds[name], inverse, f"seconds of {name} over those of {base}")
