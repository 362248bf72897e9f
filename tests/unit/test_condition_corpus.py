"""Schedules with known verdicts: nothing is called proved or violated that is not."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from hvd_adam.algorithms import named
from hvd_adam.theory.condition import check, check_algorithm
from hvd_adam.theory.verdict import State, Verdict

ROWS: list[dict[str, Any]] = yaml.load(
    (Path(__file__).parent / "data" / "condition.yaml").read_text(), yaml.CSafeLoader
)
TRUTH = {"h": State.HOLDS, "v": State.VIOLATED}


@cache
def verdict_on(place: int) -> Verdict:
    row = ROWS[place]
    steps = row.get("steps", 10**6)
    if "algorithm" in row:
        return check_algorithm(named(**row["algorithm"]), steps)
    return check(alpha=row["alpha"], beta=row["beta"], theta=row["theta"], steps=steps)


def name_of(place: int) -> str:
    row = ROWS[place]
    return f"{place}: {row.get('algorithm') or (row['alpha'], row['beta'], row['theta'])}"


PLACES = [pytest.param(place, id=name_of(place)) for place in range(len(ROWS))]


@pytest.mark.parametrize("place", PLACES)
def test_every_clause_is_judged_as_its_proof_says(place):
    verdict, row = verdict_on(place), ROWS[place]
    found = {c.number: (c.state, c.says) for c in verdict.clauses if c.state is not TRUTH[row["verdict"][c.number - 1]]}
    if row.get("undecided"):
        assert {state for state, _ in found.values()} == {State.UNDECIDED}, row["why"]
    else:
        assert not found, row["why"]


@pytest.mark.parametrize("place", [p for p in PLACES if "c0" in ROWS[p.values[0]]])
def test_c0_is_that_of_the_closed_form(place):
    assert verdict_on(place).constant.value == pytest.approx(ROWS[place]["c0"], rel=1e-9)


@pytest.mark.parametrize("place", [p for p in PLACES if "limit" in ROWS[p.values[0]]])
def test_limit_of_the_ratio_is_that_of_the_closed_form(place):
    assert verdict_on(place).limit == pytest.approx(ROWS[place]["limit"], rel=1e-9)


def test_the_corpus_has_200_schedules_and_leaves_at_most_5_percent_undecided():
    undecided = [name_of(p) for p in range(len(ROWS)) if any(c.state is State.UNDECIDED for c in verdict_on(p).clauses)]
    assert len(ROWS) >= 200
    assert len(undecided) <= 0.05 * len(ROWS), undecided


def test_what_is_decided_is_proved_but_for_a_few():
    """Numbers alone carry few verdicts; they are never called proofs."""
    numeric = [name_of(p) for p in range(len(ROWS)) if verdict_on(p).holds and not verdict_on(p).is_proved]
    assert len(numeric) <= 0.05 * len(ROWS), numeric
