"""The condition over a study, for people: one verdict table, and each finding spelt out once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hvd_adam.study.condition import Judged
from hvd_adam.study.plan import ENDLESS
from hvd_adam.theory.report import LIMITS, WIDTH, entry, finding, why

_MOST = 8  # findings that are spelt out


def screen(judged: Sequence[Judged], title: str, breaks: str = "") -> str:
    """One verdict table of a study, for people: schedules that fare alike share a row.

    Args:
        judged: worst first, as `judge` gives them.
        title: what was asked, such as the study's file.
        breaks: what the loss at hand visibly does to the assumptions.
    """
    cells = sum(len(each.schedules.cells) for each in judged)
    lines = [f"Will it converge?  {title}: {_count(cells, 'cell')}, {_count(len(judged), 'schedule')}"[:WIDTH], ""]
    lines.append(_headline(judged))
    lines.append(f"  {'algorithm':16}{'cells':>6}{'schedules':>11}  {'verdict':11}{'evidence':10}clauses that fail")
    groups = _alike(judged)
    lines += [_row(group) for group in groups]
    for group in groups[:_MOST]:
        lines += ["", *_spelt_out(group)]
    lines += ["", *entry("limits", LIMITS + (f"; {breaks}" if breaks else "") + ".")]
    return "\n".join(lines)


def _headline(judged: Sequence[Judged]) -> str:
    failing = sum(not each.verdict.holds for each in judged)
    if failing:
        return f"NOT SHOWN TO CONVERGE: {failing} of {_count(len(judged), 'schedule')}."
    if all(each.verdict.is_proved for each in judged):
        return "CONVERGES: the sufficient condition holds (proved), in every cell."
    return "HOLDS AS FAR AS LOOKED, in every cell: numeric evidence, not all of it proved."


def _alike(judged: Sequence[Judged]) -> list[list[Judged]]:
    """Grouped by all that a row and its finding say."""
    groups: dict[Any, list[Judged]] = {}
    for each in judged:
        verdict = each.verdict
        key = (each.schedules.member.name, verdict.state, verdict.is_proved, why(verdict), verdict.rate)
        groups.setdefault(key, []).append(each)
    return list(groups.values())


def _row(group: Sequence[Judged]) -> str:
    name, verdict = group[0].schedules.member.name, group[0].verdict
    cells = sum(len(each.schedules.cells) for each in group)
    kind = "proved" if verdict.is_proved else "numeric"
    failing = ", ".join(str(clause.number) for clause in verdict.failing) or "none"
    return f"  {name:16}{cells:6}{len(group):11}  {verdict.state.value:11}{kind:10}{failing}"


def _spelt_out(group: Sequence[Judged]) -> list[str]:
    """The first of a group, spelt out."""
    verdict, name = group[0].verdict, group[0].schedules.member.name
    cells = sum(len(each.schedules.cells) for each in group)
    lengths = sorted({each.schedules.steps for each in group})
    ends = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    said = f"{name}: {group[0].schedules.cells[0]}{f' and {cells - 1} more' if cells > 1 else ''}, T = {ends}"
    lines = entry("for", said + (", which only its seconds end" if lengths[-1] >= ENDLESS else ""))
    lines += entry("", f"alpha_t {verdict.alpha}, theta_t {verdict.theta}, beta_t {verdict.beta}")
    return lines + finding(verdict)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
