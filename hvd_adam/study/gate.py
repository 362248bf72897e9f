"""Holds a study to its `expect:`, series by series."""

from __future__ import annotations

from hvd_adam.errors import ConfigError
from hvd_adam.study.analysis import Analysis, Series
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.expectation import EXIT, Expectation, Judgement, judge, outcome, within

__all__ = ["EXIT", "gate", "outcome"]


def gate(made: Analysis) -> list[Judgement]:
    """A judgement for each expectation and series.

    A cell none of whose runs can be used is not enough evidence: what was not measured does not pass.

    Raises:
        ConfigError: the study expects nothing, or is one of theory mode and expects more than a slope.
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
        Judgement(f"{name}cell {cell}: a run that can be used", _nothing("none"), "not enough evidence")
        for cell in silent
    ]
    passages = [passage for cell in series.cells for passage in cell.passages]
    if not passages:
        return found
    if expect.slope is not None and series.linear is not None:
        low, high = expect.slope
        seeds = max(len(cell.passages) for cell in series.cells)
        found.append(within(f"{name}slope in [{low:g}, {high:g}]", series.linear.slope, low, high, seeds))
    elif expect.slope is not None:
        found.append(Judgement(f"{name}slope", _nothing(series.why_not), "not enough evidence"))
    ratio = expect.time_ratio
    asked = Expectation(
        linear_up_to=expect.linear_up_to if series.linear is not None else None,
        reach=expect.reach,
        time_ratio=(ratio.cell, ratio.base, ratio.at_most) if ratio is not None else None,
    )
    return found + judge(passages, asked, series.pace.time if series.pace else None)


def _horizons(made: Analysis) -> list[Judgement]:
    expect = made.study.expect
    if expect.slope is None:
        raise ConfigError(
            "expect without slope in theory mode", "there no run is watched until its target", "expect a slope"
        )
    low, high = expect.slope
    return [
        within(f"slope in [{low:g}, {high:g}]", one.slope, low, high, len(made.study.seeds))
        if one.slope is not None
        else Judgement("slope", _nothing("the horizons do not bracket the target"), "not enough evidence")
        for one in made.horizons
    ]


def _nothing(why: str) -> Estimate:
    return Estimate(float("nan"), float("-inf"), float("inf"), 0.95, 0, why)
