"""Gives a study to a cluster: what is left of it, as jobs, and each of them once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hvd_adam.errors import ConfigError, HvdAdamError, RunError
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.continuing import differing
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Plan
from hvd_adam.study.slurm import Queued, Slurm
from hvd_adam.study.submission import Array, Job, Wish, arrays, jobs, places
from hvd_adam.study.submitted import Submitted

FAILED, MISSING = "failed", "missing"


@dataclass(frozen=True)
class Standing:
    """Where each run of a study is, by place.

    Attributes:
        done: it has a result that stands.
        live: Slurm has it, queued or running.
        failed: it began, and has ended without a result.
        missing: it was submitted, and has not begun; or its job was cancelled before.
        fresh: it was never submitted.
    """

    done: tuple[str, ...]
    live: tuple[str, ...]
    failed: tuple[str, ...]
    missing: tuple[str, ...]
    fresh: tuple[str, ...]


def standing(study: StudyConfig, made: Plan, folder: Folder, queue: Sequence[Queued]) -> Standing:
    """Sorts the runs of the plan, those that wait for a learning rate among them."""
    submitted = Submitted(folder).standing(queue)
    failures = folder.failures()
    runs = {run.place: run for run in made.runs}
    found: dict[str, list[str]] = {name: [] for name in Standing.__dataclass_fields__}
    for cell in (*made.tuning, *made.cells):
        for place in places(cell, study):
            at = submitted.get(place, (None, None))[1]
            given_up = bool(failures.get(place, {}).get("last"))
            if place in runs and folder.is_finished(runs[place]):
                kind = "done"
            elif at is not None and not (given_up and failures[place].get("job") == at.name):
                kind = "live"
            elif place not in submitted:
                kind = "fresh"
            else:
                kind = FAILED if given_up or (folder.path / place).is_dir() else MISSING
            found[kind].append(place)
    return Standing(**{name: tuple(those) for name, those in found.items()})


def wanted(found: Standing, resubmit: Sequence[str]) -> tuple[str, ...]:
    """The runs to submit: those that never were, and of the others what is asked for."""
    return (
        *found.fresh,
        *(found.failed if FAILED in resubmit else ()),
        *(found.missing if MISSING in resubmit else ()),
    )


@dataclass(frozen=True)
class Prepared:
    """A submission that is ready."""

    number: int
    arrays: tuple[Array, ...]
    jobs: tuple[Job, ...]
    wish: Wish

    @property
    def node_hours(self) -> float | None:
        """At most, of all arrays; picks and report take next to nothing."""
        hours = [array.node_hours(self.wish) for array in self.arrays]
        return None if None in hours else sum(hour for hour in hours if hour is not None)


def prepare(
    study: StudyConfig,
    made: Plan,
    folder: Folder,
    runs: Sequence[str],
    seconds: Mapping[str, float | None],
    wish: Wish,
    queue: Sequence[Queued],
) -> Prepared:
    """The submission of these runs; nothing is written yet."""
    submitted = Submitted(folder)
    found = arrays(study, made, runs, seconds, wish)
    asked = set(runs)
    waiting = any(not cell.runs and asked & set(places(cell, study)) for cell in made.cells)
    number = max(submitted.numbers(), default=0) + 1
    mine = set(submitted.ids())
    running = sorted({one.job for one in queue if one.job in mine})
    return Prepared(
        number, tuple(found), tuple(jobs(study, found, folder.path.absolute(), number, wish, waiting, running)), wish
    )


def refuse_changed_in_queue(study: StudyConfig, made: Plan, folder: Folder, found: Standing) -> None:
    """Raises ConfigError where a run that Slurm has was submitted with another config."""
    if not folder.holds_study():
        return
    from hvd_adam.study.plan import plan

    before = {run.place: run for run in plan(folder.study(), folder.picks()).runs}
    now = {run.place: run for run in made.runs}
    both = [place for place in found.live if place in before and place in now]
    changed = [place for place in both if differing(before[place], now[place])]
    if changed:
        raise ConfigError(
            f"{len(changed)} runs of {folder.path} are queued or running with another config, {changed[0]} among them",
            "results of two configs cannot be told apart afterwards",
            f"cancel them first: hvd-adam study cancel {folder.path}; or give the changed study another name",
        )


def submit(
    study: StudyConfig, folder: Folder, ready: Prepared, slurm: Slurm, script: Path, say: Callable[[list[str]], None]
) -> list[str]:
    """Calls sbatch for each job, in order; the numbers that Slurm gave. All of it or nothing.

    Args:
        say: is told of each call before it is made.

    Raises:
        HvdAdamError: Slurm refuses one; those before it are cancelled, and where they cannot be, they stay noted.
    """
    submitted = Submitted(folder)
    submitted.begin(ready.number, study.to_yaml(), ready.arrays)
    taken: list[tuple[Job, str]] = []
    ids: dict[str, str] = {}
    try:
        for job in ready.jobs:
            command = job.command(script, ids)
            say(command)
            ids[job.name] = slurm.submit(command)
            taken.append((job, ids[job.name]))
            submitted.note(ready.number, taken)
    except BaseException as error:
        why = getattr(error, "why", type(error).__name__)
        if ids:
            try:
                slurm.cancel(ids.values())
            except HvdAdamError as other:  # what is noted stays, so that nothing that is queued is submitted again
                raise RunError(other.found, f"{other.why}, after {why}", f"{other.cure}; then submit again") from error
        submitted.forget(ready.number)
        if isinstance(error, HvdAdamError) and ids:
            raise type(error)(error.found, f"{why}; the jobs before it were cancelled", error.cure) from None
        raise
    return list(ids.values())


def dry(ready: Prepared, script: Path) -> list[list[str]]:
    """The calls of sbatch as they would be made, with the jobs' names where Slurm's numbers would stand."""
    names = {job.name: f"<{job.name}>" for job in ready.jobs}
    return [job.command(script, names) for job in ready.jobs]
