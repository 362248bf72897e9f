"""A report as plain data, for other programs. Numbers that are not finite are the strings nan, inf and -inf."""

from __future__ import annotations

import math
from typing import Any

from hvd_adam.study.analysis import Analysis, CellResult, Series
from hvd_adam.study.collect import Record
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.horizons import HorizonSeries
from hvd_adam.study.linearity import Test
from hvd_adam.study.pace import Pace
from hvd_adam.study.verdict import verdict
from hvd_adam.theory.elbow import Range

SCHEMA = 1


def plain(made: Analysis) -> dict[str, Any]:
    """Everything, under names that stay."""
    return {
        "schema": SCHEMA,
        "study": made.study.name,
        "mode": made.study.mode,
        "target": str(made.target),
        "verdict": [{"tone": one.tone, "text": one.text} for one in verdict(made)],
        "series": [_series(one) for one in made.series],
        "other_targets": [
            {"target": str(t), "series": [_series(one) for one in several]} for t, several in made.others
        ],
        "learning_rates": [
            {
                "cell": one.group,
                "batch": one.batch,
                "picked": one.picked,
                "at_edge": one.at_edge,
                "tried": [
                    {"factor": f, "reached": t.reached, "runs": t.made, "steps": figure(t.steps) if t.steps else None}
                    for f, t in one.tried.items()
                ],
                "spread": figure(one.spread) if one.spread else None,
            }
            for one in made.picks
        ],
        "horizons": [_horizons(one) for one in made.horizons],
        "runs": [_run(record, made) for record in made.records],
        "left_aside": list(made.strangers),
    }


def _series(series: Series) -> dict[str, Any]:
    linear, curve = series.linear, series.hyperbola
    found: dict[str, Any] = {"label": series.label, "axis": series.axis, "why_not": series.why_not}
    if linear is not None:
        found |= {
            "slope": figure(linear.slope),
            "linear_up_to": figure(linear.up_to),
            "ideal_samples": figure(series.ideal) if series.ideal else None,
            "slope_after": figure(series.after) if series.after else None,
            "stretches": [
                {"from": one.start, "to": one.end, "kind": one.kind, "slope": figure(one.slope)}
                for one in series.stretches
            ],
            "tests": [_test(test) for test in (linear.from_one, linear.bends, *([curve.fits] if curve else []))],
        }
    if curve is not None:
        found["hyperbola"] = {
            "reported": curve.reported,
            "critical_batch": figure(curve.critical),
            "fewest_steps": figure(curve.floor),
        }
    if series.regions is not None:
        found["regions"] = {
            "perfect_scaling_up_to": figure(series.regions.perfect),
            "maximal_parallelism_from": figure(series.regions.maximal),
        }
    if series.goodness is not None:
        fit = series.goodness
        found["goodness_of_fit"] = {
            "normal_p": number(fit.normal), "equal_spread_p": number(fit.equal), "n": fit.n, "doubtful": fit.doubtful,
        }  # fmt: skip
    found["elbow_predicted"] = _range(series.predicted)
    found["seconds"] = _pace(series.pace)
    found["cells"] = [_cell(series, cell) for cell in series.cells]
    return found


def _cell(series: Series, one: CellResult) -> dict[str, Any]:
    cell, noise, zones = one.cell, one.noise, series.regions
    excess = series.linear.excess.get(cell.group) if series.linear else None
    return {
        "cell": cell.name,
        "setting": dict(cell.setting),
        "workers": cell.workers,
        "batch": cell.batch,
        "ranks": cell.ranks,
        "outcomes": dict(one.outcomes),
        "steps": figure(one.reach.steps) if one.reach else None,
        "reached": figure(one.reach.reached) if one.reach else None,
        "diverged": figure(one.reach.diverged) if one.reach else None,
        "steps_more_than": one.lower_bound,
        "excess": figure(excess) if excess else None,
        "region": zones.of(cell.batch) if zones else None,
        "region_sure": zones.sure(cell.batch) if zones else None,
        "noise_scale": {**(_range(noise.scale) or {}), "steps": noise.steps} if noise else None,
        "step_seconds": {phase: list(values) for phase, values in one.step_seconds.items()},
    }


def _pace(found: Pace | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "step_seconds": {name: figure(one) for name, one in found.step.items()},
        "seconds_to_target": {name: figure(one) for name, one in found.time.items()},
        "efficiency": {
            name: {"algorithmic": figure(one.algorithmic), "system": figure(one.system), "total": figure(one.total)}
            for name, one in found.efficiency.items()
        },
        "nodes": [
            {
                "nodes": option.nodes,
                "cell": option.name,
                "predicted": found.is_predicted(option),
                "seconds": figure(option.seconds),
                "node_hours": figure(option.node_hours),
            }
            for option in found.options
        ],
        "fastest": found.choice.fastest.nodes if found.choice else None,
        "cheapest": found.choice.cheapest.nodes if found.choice else None,
        "cheapest_within_10_percent": found.choice.cheap_and_fast.nodes if found.choice else None,
    }


def _horizons(series: HorizonSeries) -> dict[str, Any]:
    return {
        "label": series.label,
        "slope": figure(series.slope) if series.slope else None,
        "linear_up_to": figure(series.up_to) if series.up_to else None,
        "cells": [
            {
                "cell": one.cell.group,
                "batch": one.cell.batch,
                "steps": figure(one.crossing.steps) if one.crossing else None,
                "why_not": one.why_not,
            }
            for one in series.cells
        ],
    }


def _run(record: Record, made: Analysis) -> dict[str, Any]:
    passage = record.passage(made.target)
    return {
        "run": record.run.place,
        "outcome": record.outcome,
        "reason": record.reason,
        "after": passage.low if passage else None,
        "by": number(passage.high) if passage else None,
        "steps": record.steps,
    }


def figure(found: Estimate) -> dict[str, Any]:
    """An estimate with all that belongs to it."""
    return {
        "estimate": number(found.estimate),
        "low": number(found.low),
        "high": number(found.high),
        "level": found.level,
        "n": found.n,
        "method": found.method,
    }


def _test(test: Test) -> dict[str, Any]:
    return {
        "question": test.question,
        "statistic": number(test.statistic),
        "df": [number(value) for value in test.df],
        "p": number(test.p),
        "n": test.n,
    }


def _range(found: Range | None) -> dict[str, Any] | None:
    return None if found is None else {key: number(value) for key, value in found._asdict().items()}


def number(value: float) -> float | str:
    """JSON has no nan and no inf."""
    return float(value) if math.isfinite(value) else str(float(value))
