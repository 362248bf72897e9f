"""Makes the runs of a study, whoever carries them: what is left to do, retries, and what is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hvd_adam.study.collect import pick_rates
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.continuing import refuse_other
from hvd_adam.study.folder import PICKS, Folder
from hvd_adam.study.plan import Plan, Run, plan

GIVE_UP = 2  # exit codes from usage on are not retried: the same config would fail again


@dataclass(frozen=True)
class Ended:
    """How an attempt at a run ended: `failed` holds the reason, empty where it went well."""

    run: Run
    failed: str = ""
    code: int = 0
    seconds: float = 0.0


def in_one_line(reason: str) -> str:
    """The first line of a reason, and of an error in three parts also why.

    >>> in_one_line("lr: -1.\\n  It must be positive.\\n  Say lr: 0.1.")
    'lr: -1. It must be positive.'
    """
    first, *more = reason.splitlines() or ["it ended without a result"]
    return f"{first} {more[0].strip()}" if more and more[0].startswith("  ") else first


class Executor(Protocol):
    """Carries runs: here, or on a cluster."""

    def carry(self, runs: Sequence[Run], folder: Folder) -> Iterator[Ended]:
        """Makes one attempt at each run, and yields as they end, in any order."""


Say = Callable[[Plan, Ended | None], None]


def run_study(
    study: StudyConfig, folder: Folder, executor: Executor, say: Say, consent: Callable[[Plan], None] | None = None
) -> Plan:
    """Makes every run that has no result yet: first those that pick learning rates, then the study's own.

    Args:
        say: called with the plan each time that it is known anew, and then with each attempt that has ended.
        consent: called once the plan is known and the folder is held; raises to stop it, at no cost.

    Raises:
        ConfigError: the folder belongs to another study; see `continuing.refuse_other`.
        RunError: somebody else works on the study, or its folder cannot be written.
    """
    folder.make()
    with folder.locked():
        made = plan(study, folder.picks())
        refuse_other(study, made, folder)
        if consent is not None:
            consent(made)
        folder.keep(study)
        say(made, None)
        _make([run for cell in made.tuning for run in cell.runs], study, folder, executor, made, say)
        if made.tuning:
            made = picked(study, made, folder)
            say(made, None)
        _make([run for cell in made.cells for run in cell.runs], study, folder, executor, made, say)
    return made


def picked(study: StudyConfig, made: Plan, folder: Folder) -> Plan:
    """The plan with the learning rates that tuning chose. A choice once made stands, since runs were made with it."""
    unfinished = {cell.tunes for cell in made.tuning for run in cell.runs if not folder.is_finished(run)}
    fresh = {group: pick for group, pick in pick_rates(study, made, folder).items() if group not in unfinished}
    picks = {**fresh, **folder.picks()}
    folder.write(PICKS, picks)
    return plan(study, picks)


def _make(runs: Sequence[Run], study: StudyConfig, folder: Folder, executor: Executor, made: Plan, say: Say) -> None:
    left = [run for run in runs if not folder.is_finished(run)]
    for attempt in range(study.retries + 1):
        if not left:
            return
        failed = []
        for ended in executor.carry(left, folder):
            facts: Mapping[str, Any] = {"run": ended.run.place, "attempt": attempt + 1, "seconds": ended.seconds}
            if folder.is_finished(ended.run):
                folder.note(kind="finished", **facts)
            else:
                reason = ended.failed or "it ended without a result"
                folder.note(kind="failed", reason=reason, code=ended.code, **facts)
                if ended.code < GIVE_UP:
                    failed.append(ended.run)
            say(made, ended)
        left = failed
