"""Makes the runs of one allocation, one after the other, on the ranks that it has: importing torch once.

Whatever ends the allocation, its next start goes on: a run that has a result is left alone, one that has begun resumes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hvd_adam.comm.launch import slurm_job
from hvd_adam.config import from_plain
from hvd_adam.config_file import read as read_yaml
from hvd_adam.errors import ConfigError, HvdAdamError, RunError
from hvd_adam.optim.agreement import from_root
from hvd_adam.study.config import from_plain as study_from_plain
from hvd_adam.study.continuing import differing
from hvd_adam.study.execute import GIVE_UP, in_one_line
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Run, plan
from hvd_adam.study.submitted import Element, Submitted

TRIES = 3  # after so many faults in a row the batch script gives up, HVD_ADAM_TRIES


class Runs:
    """The runs of an allocation, as rank 0 sees them.

    Raises:
        ConfigError: the submission, or this element of it, does not exist.
    """

    def __init__(self, folder: Folder, element: Element) -> None:
        self.folder, self.element = folder, element
        self.home = element.folder(folder)
        self.home.mkdir(parents=True, exist_ok=True)
        submitted = Submitted(folder)
        self.study = study_from_plain(read_yaml(submitted.path(element.submission) / "study.yaml"))
        picks = folder.picks()
        self.planned = {run.place: run for run in plan(self.study, picks).runs}
        self.present = {run.place: run for run in plan(folder.study(), picks).runs}
        self.start = self._start()
        self.tries = max(1, min(self.study.retries + 1, int(os.environ.get("HVD_ADAM_TRIES") or TRIES)))

    @staticmethod
    def _start() -> float | None:
        """Seconds from the start of the batch script until now, when the first run can begin; None without one."""
        began = os.environ.get("HVD_ADAM_BEGAN", "")
        return round(time.time() - int(began), 1) if began.isdigit() else None

    def faults(self, place: str) -> int:
        """How many starts in a row have ended in the middle of this run, by a fault, without a new checkpoint."""
        now = self.home / "now"
        if not now.is_symlink() or Path(os.readlink(now)) != (self.folder.path / place).absolute():
            return 0
        try:
            return int((self.home / "now.tries").read_text().split("\n")[0])
        except (OSError, ValueError):
            return 0

    def run(self, place: str) -> Run:
        """What was planned, if it still is.

        Raises:
            ConfigError: its learning rate was not picked; or the study is no longer the one that was submitted.
        """
        if place not in self.planned:
            raise ConfigError(
                f"{place} has no learning rate",
                "the runs that were to pick it have failed, or were not made",
                f"see hvd-adam study status {self.folder.path}; then submit the study again with --resubmit failed",
            )
        run = self.planned[place]
        changed = differing(run, self.present.get(place))
        if changed:
            raise ConfigError(
                f"{place} is another run than when the study was submitted: {changed}",
                f"study.yaml in {self.folder.path} was changed since, and results of two configs cannot be told apart",
                "put it back, or submit the changed study under another name",
            )
        return run

    def at(self, run: Run) -> None:
        """Lets `now` point to the run's folder: the batch script looks there for heartbeats and checkpoints."""
        fresh = self.home / f".now.{os.getpid()}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.folder.of(run).absolute())
        fresh.replace(self.home / "now")

    def note(self, place: str, **event: Any) -> None:
        """Adds an event of this allocation."""
        name = str((self.home / "events.jsonl").relative_to(self.folder.path))
        self.folder.note(name, run=place, **event, job=slurm_job(os.environ))


@dataclass
class Ends:
    """What came of the runs of an allocation, so far."""

    stopped: bool = False
    failed: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    given_up: set[str] = field(default_factory=set)

    def say(self, runs: int, folder: Folder) -> None:
        """Raises an error where runs have failed; of their own kind where all are of one."""
        if not self.failed:
            return
        kind = ConfigError if set(self.codes) == {GIVE_UP} else RunError
        raise kind(
            f"{len(self.failed)} of {runs} runs have failed; the first: {self.failed[0]}",
            "a run that cannot be made is noted, and the others go on",
            f"mend it, then: hvd-adam study submit with --resubmit failed; hvd-adam study status {folder.path}",
        )


def make(folder: Folder, element: Element, engine: str, stop: Any) -> bool:
    """Makes the runs that have no result yet, on all ranks; False where it was asked to stop before the end.

    Raises:
        ConfigError, RunError: runs have failed; those after them were made all the same.
    """
    from hvd_adam.comm import init

    world = init(engine or None)
    runs = Runs(folder, element) if world.rank == 0 else None
    ends = Ends()
    for place in element.runs:
        _make(place, runs, world, stop, ends)
        if ends.stopped:
            break
    world.close()
    if world.rank == 0 and not ends.stopped:  # else the job is to be queued again, and its last start says so
        ends.say(len(element.runs), folder)
    return not ends.stopped


def _make(place: str, runs: Runs | None, world: Any, stop: Any, ends: Ends) -> None:
    """All attempts at one run. Rank 0 decides, and tells the others what to do."""
    from hvd_adam.training.loop import train
    from hvd_adam.training.run_lock import InUse

    before = 0 if runs is None else runs.faults(place)
    attempt = before
    while True:
        order = from_root(world, partial(_order, place, runs, attempt, before, ends))
        if order is None:
            return
        attempt += 1
        began = time.monotonic()
        try:
            result = train(from_plain(order[0]), order[1], resume=True, stop=stop, world=world)
        except InUse as error:  # whoever is there makes it
            if runs is not None:
                runs.note(place, kind="left", attempt=attempt, reason=str(error))
            return
        except HvdAdamError as error:  # all ranks raise alike, so all of them come here
            if runs is not None:
                _raised(runs, place, attempt, began, error, ends)
            continue
        if runs is not None and result is not None:
            ends.stopped = result.stopped
            if not result.stopped:
                _finished(runs, place, attempt, began)
        ends.stopped = from_root(world, lambda: ends.stopped)
        return


def _order(place: str, runs: Runs | None, attempt: int, before: int, ends: Ends) -> tuple[dict[str, Any], str] | None:
    """The config and the folder of the attempt that all ranks make next; None: they leave this run. Rank 0 decides."""
    assert runs is not None
    if place in ends.given_up:
        return None
    try:
        run = runs.run(place)
        if runs.folder.is_finished(run):
            return None
        if attempt == before and attempt >= runs.tries:
            raise RunError(
                f"{place} ended its ranks {attempt} times without a new checkpoint",
                "it would do so again",
                f"its log says why: {runs.home.parents[1] / 'log'}",
            )
    except HvdAdamError as error:
        _failed(runs, place, attempt, error, True, ends)
        return None
    runs.at(run)
    return dict(run.config), str(runs.folder.of(run))


def _raised(runs: Runs, place: str, attempt: int, began: float, error: HvdAdamError, ends: Ends) -> None:
    """One that has diverged has a result, which another attempt would not change."""
    if runs.folder.is_finished(runs.planned[place]):
        _finished(runs, place, attempt, began)
    else:
        _failed(runs, place, attempt, error, error.exit_code >= GIVE_UP or attempt >= runs.tries, ends)


def _finished(runs: Runs, place: str, attempt: int, began: float) -> None:
    seconds = round(time.monotonic() - began, 3)
    runs.note(place, kind="finished", attempt=attempt, seconds=seconds, start=runs.start)


def _failed(runs: Runs, place: str, attempt: int, error: HvdAdamError, last: bool, ends: Ends) -> None:
    runs.note(place, kind="failed", attempt=attempt, reason=str(error), code=error.exit_code, last=last)
    if last:
        ends.given_up.add(place)
        reason = in_one_line(str(error))
        ends.failed.append(reason if reason.startswith(place) else f"{place}: {reason}")
        ends.codes.append(error.exit_code)
