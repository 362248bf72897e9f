"""The sufficient condition over a study: every cell's schedules judged, each once, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hvd_adam.algorithms import Algorithm
from hvd_adam.config import RunConfig, from_plain
from hvd_adam.errors import ConditionError, ConfigError
from hvd_adam.study.plan import Plan
from hvd_adam.theory.condition import check_algorithm
from hvd_adam.theory.verdict import State, Verdict
from hvd_adam.training.condition import condition_line, require_condition

_RANK = {State.VIOLATED: 0, State.UNDECIDED: 1, State.HOLDS: 2}  # worst first


@dataclass(frozen=True)
class Schedules:
    """One member with its schedules, and the cells that run it; `steps` is the longest of their T."""

    cells: tuple[str, ...]
    config: RunConfig
    steps: int

    @property
    def member(self) -> Algorithm:
        return self.config.member()


@dataclass(frozen=True)
class Judged:
    """Schedules and their verdict."""

    schedules: Schedules
    verdict: Verdict

    @property
    def badness(self) -> tuple[int, bool]:
        """Sorts the worst first: violated by proof, by numbers, undecided, then what holds by numbers, by proof."""
        return _RANK[self.verdict.state], self.verdict.is_proved is self.verdict.holds


def schedules(made: Plan) -> tuple[Schedules, ...]:
    """The distinct ones, in the order of the plan: where lr is tuned, one for each that is tried.

    A schedule that knows T is another one for each T; of others the longest T is kept.
    """
    found: dict[Any, Schedules] = {}
    for cell in (*made.tuning, *made.cells):
        if not cell.runs:  # refused, or it waits for a learning rate that is among those tried
            continue
        config = from_plain(dict(cell.runs[0].config))
        member = config.member()
        bound = any(schedule.needs_horizon for schedule in (member.alpha, member.beta, member.theta))
        key = (member, cell.steps if bound else None)
        there = found.get(key)
        if there is None:
            found[key] = Schedules((cell.name,), config, cell.steps)
        else:
            longest = max((there.config, there.steps), (config, cell.steps), key=lambda pair: pair[1])
            found[key] = Schedules((*there.cells, cell.name), *longest)
    return tuple(found.values())


def judge(found: Iterable[Schedules], framed: Callable[[Algorithm], Algorithm] = lambda same: same) -> list[Judged]:
    """The verdicts, worst first.

    Args:
        framed: the same schedules under another convention; see `hvd-adam check --framework`.

    Raises:
        ConfigError: there are none, or no verdict is possible on one: a learning rate of 0.
    """
    judged = []
    for one in found:
        try:
            judged.append(Judged(one, check_algorithm(framed(one.member), one.steps)))
        except ConfigError as error:
            raise ConfigError(f"cell {one.cells[0]}: {error.found}", error.why, error.cure) from None
    if not judged:
        raise ConfigError(
            "a study none of whose cells is run",
            "its lr rule has no meaning at their batches, so there are no schedules to judge",
            "hvd-adam study plan says why; choose another lr.rule",
        )
    return sorted(judged, key=lambda each: each.badness)


def before_running(made: Plan, say: Callable[[str], None]) -> None:
    """What `study run` does about the condition: one line with `warn`, a refusal with `require`, nothing with `off`.

    Raises:
        ConditionError: condition: require, and some cell's schedules are not shown to meet it.
    """
    asked = [one for one in schedules(made) if one.config.condition != "off"]
    for one in asked:
        try:
            require_condition(one.config, one.steps)
        except ConditionError as error:
            raise ConditionError(f"cell {one.cells[0]}: {error.found}", error.why, error.cure) from None
    if not asked:
        return
    try:
        judged = judge(asked)
    except ConfigError as error:  # it trains, but is outside the theory
        say(f"condition: not judged, {error.found}: {error.why}")
        return
    worst = judged[0].schedules
    said = condition_line(worst.config, worst.steps)
    if len(judged) > 1:
        passing = sum(each.verdict.holds for each in judged)
        said = f"{said} ({worst.cells[0]}, the worst; {passing} of {len(judged)} schedules hold)"
    say(str(said))


def to_plain(judged: Sequence[Judged]) -> dict[str, Any]:
    """Plain data for JSON, worst first."""
    worst = judged[0].verdict
    return {
        "schema": 1,
        "verdict": worst.state.value,
        "proved": worst.is_proved,
        "schedules": [
            {"cells": list(each.schedules.cells), "algorithm": each.schedules.member.name, **each.verdict.to_plain()}
            for each in judged
        ],
    }
