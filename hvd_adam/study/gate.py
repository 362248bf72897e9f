"""Holds a study to its `expect:`, series by series."""

from __future__ import annotations

from dataclasses import replace

from hvd_adam.errors import ConfigError
from hvd_adam.study.analysis import Analysis, Series
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.expectation import EXIT, Expectation, Judgement, judge, outcome, reaches, slope_within, within
from hvd_adam.study.picks import slope_with_picks

__all__ = ["EXIT", "gate", "outcome"]


def gate(made: Analysis) -> list[Judgement]:
    """A judgement for each expectation and series.

    A cell none of whose runs can be used is not enough evidence: what was not measured does not pass.

    Raises:
        ConfigError: the study expects nothing.
    """
    expect = made.study.expect
    if expect == type(expect)():
        raise ConfigError(
            f"study {made.study.name}: no expect",
            "there is nothing to hold it to",
            "add for instance expect: {slope: [-1.1, -0.9], linear_up_to: 64} to the study file, and run it again",
        )
    if made.horizons:
        return _horizons(made)
    return [judgement for series in made.series for judgement in _judged(series, made)]


def _judged(series: Series, made: Analysis) -> list[Judgement]:
    expect = made.study.expect
    silent = [cell.cell.name for cell in series.cells if not cell.passages]
    name = f"{series.label}: " if series.label else ""
    found = [
        Judgement(f"cell {cell}: a run that can be used", _nothing("none"), "not enough evidence") for cell in silent
    ]
    passages = [passage for cell in series.cells for passage in cell.passages]
    if not passages:
        return [replace(one, what=f"{name}{one.what}") for one in found]
    if expect.slope is not None:
        found.append(_slope(series, *expect.slope))
    if expect.linear_up_to is not None and (series.linear is None or series.axis == "workers"):
        why = series.why_not or "all cells have one batch"
        what = f"linear up to batch {expect.linear_up_to} at least"
        found.append(Judgement(what, _nothing(why), "not enough evidence"))
    ratio = expect.time_ratio
    asked = Expectation(
        linear_up_to=expect.linear_up_to if series.linear is not None and series.axis == "batch" else None,
        reach=expect.reach,
        time_ratio=(ratio.cell, ratio.base, ratio.at_most) if ratio is not None else None,
    )
    found += judge(passages, asked, series.pace.time if series.pace else None, series.picks)
    return [replace(one, what=f"{name}{one.what}") for one in found]


def _slope(series: Series, low: float, high: float) -> Judgement:
    if series.linear is None:
        return Judgement("slope", _nothing(series.why_not), "not enough evidence")
    if series.picks:
        return slope_within(series.passages, low, high, lambda runs: slope_with_picks(runs, series.picks))
    seeds = max(len(cell.passages) for cell in series.cells)
    return within(f"slope in [{low:g}, {high:g}]", series.linear.slope, low, high, seeds)


def _horizons(made: Analysis) -> list[Judgement]:
    expect = made.study.expect
    found = []
    for one in made.horizons:
        seeds, name = len(made.study.seeds), f"{one.label}: " if one.label else ""
        if expect.slope is not None:
            low, high = expect.slope
            unknown = _nothing("the horizons do not bracket the target")
            found.append(within(f"{name}slope in [{low:g}, {high:g}]", one.slope or unknown, low, high, seeds))
        if expect.linear_up_to is not None:
            what = f"{name}linear up to batch {expect.linear_up_to} at least"
            unknown = _nothing("the target was met in no cell's horizons, or there is one batch")
            found.append(reaches(what, one.up_to or unknown, expect.linear_up_to))
    return found


def _nothing(why: str) -> Estimate:
    return Estimate(float("nan"), float("-inf"), float("inf"), 0.95, 0, why)
