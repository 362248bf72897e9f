"""Makes the runs of a study, whoever carries them: what is left to do, retries, and what is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hvd_adam.errors import ConfigError
from hvd_adam.study.collect import pick_rates
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Plan, Run, plan

GIVE_UP = 2  # exit codes from usage on are not retried: the same config would fail again


@dataclass(frozen=True)
class Ended:
    """How an attempt at a run ended: `failed` holds the reason, empty where it went well."""

    run: Run
    failed: str = ""
    code: int = 0
    seconds: float = 0.0


class Executor(Protocol):
    """Carries runs: here, or on a cluster."""

    def carry(self, runs: Sequence[Run], folder: Folder) -> Iterator[Ended]:
        """Makes one attempt at each run, and yields as they end, in any order."""


def run_study(
    study: StudyConfig, folder: Folder, executor: Executor, say: Callable[[Plan, Ended | None], None]
) -> Plan:
    """Makes every run that has no result yet: first those that pick learning rates, then the study's own.

    Args:
        say: called at the start with the plan, and then with each attempt that has ended.

    Raises:
        ConfigError: runs in the folder belong to another study; see also `Folder.open`.
    """
    folder.open(study)
    with folder.locked():
        made = plan(study, folder.read("picks.json"))
        changed = folder.changed_runs(made)
        if changed:
            raise ConfigError(
                f"{len(changed)} runs in {folder.path} were made with another config: {', '.join(changed[:5])}",
                "results of two configs cannot be told apart afterwards",
                "give the changed study another name, or remove these folders",
            )
        say(made, None)
        _make([run for cell in made.tuning for run in cell.runs], study, folder, executor, made, say)
        if made.tuning:
            picks = {**folder.read("picks.json"), **pick_rates(study, made, folder)}
            folder.write("picks.json", picks)
            made = plan(study, picks)
            say(made, None)
        _make([run for cell in made.cells for run in cell.runs], study, folder, executor, made, say)
    return made


def _make(
    runs: Sequence[Run],
    study: StudyConfig,
    folder: Folder,
    executor: Executor,
    made: Plan,
    say: Callable[[Plan, Ended | None], None],
) -> None:
    left = [run for run in runs if not folder.is_finished(run)]
    for attempt in range(study.retries + 1):
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
        if not left:
            return
