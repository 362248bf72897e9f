"""A study's folder: what it was planned as, who works on it, and what happened.

study.yaml       the resolved study          CELL/seed-K/   the run directories
events.jsonl     one line for each attempt   picks.json     the learning rates that tuning chose
costs.json       seconds, by cell            lock           held while `study run` works
workers/         what workers said last
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from hvd_adam import config_file
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.files import there, write_whole
from hvd_adam.study.config import StudyConfig, from_plain
from hvd_adam.study.plan import Run

_FREE = {
    errno.ENOSPC: "free the disk",
    errno.EDQUOT: "free some of the quota",
    errno.EACCES: "let this user write there",
}
PICKS = "picks.json"
LAST_WORKER = 30.0  # seconds that the workers of a killed study get to end


class Folder:
    """The place of one study, runs/NAME unless said otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock_number: int | None = None  # the open file that holds the lock, for workers to inherit

    def of(self, run: Run) -> Path:
        """The run directory of a run."""
        return self.path / run.place

    def study(self) -> StudyConfig:
        """The study that this folder belongs to.

        Raises:
            ConfigError: there is none, or it cannot be read.
        """
        file = self.path / "study.yaml"
        if not there(file):
            inside = sorted(study.parent.name for study in self.path.glob("*/study.yaml"))
            raise ConfigError(
                f"{self.path}",
                "it holds no study: there is no study.yaml",
                f"name one of the studies in it: {', '.join(inside[:10])}"
                if inside
                else "give the folder that `study run` made",
            )
        return from_plain(config_file.read(file))

    def make(self) -> None:
        """Makes the folder, where there is none.

        Raises:
            RunError: it cannot be written.
        """
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "workers").mkdir(exist_ok=True)

    def holds_study(self) -> bool:
        """Whether a study has been run here before."""
        return there(self.path / "study.yaml")

    def keep(self, study: StudyConfig) -> None:
        """Writes study.yaml."""
        self.write_text("study.yaml", study.to_yaml())

    def strangers(self, runs: Iterable[Run]) -> tuple[str, ...]:
        """Run directories here that are none of these: of another study, or of seeds that were taken out."""
        known = {run.place for run in runs}
        found = (trace.parent.relative_to(self.path) for trace in self.path.glob("**/seed-*/trace.jsonl"))
        return tuple(sorted(str(place) for place in found if str(place) not in known))

    def result(self, run: Run) -> dict[str, Any] | None:
        """result.json of a run that has ended; None where there is none, or it cannot be read."""
        return self._result(run.place)

    def _result(self, place: str) -> dict[str, Any] | None:
        try:
            facts = json.loads((self.path / place / "result.json").read_text())
        except (OSError, ValueError):
            return None
        return facts if isinstance(facts, dict) else None

    def launches(self, run: Run) -> list[Any]:
        """Of a run: one each time that it was started or resumed; empty where nothing is written down."""
        try:
            return list(json.loads((self.of(run) / "environment.json").read_text())["launches"])
        except (OSError, ValueError, KeyError):
            return []

    def train_size(self, runs: Iterable[Run]) -> int:
        """Training samples of the study's task, as the first trace there is tells; 0 where none does, or no end."""
        for run in runs:
            with suppress(OSError, ValueError), (self.of(run) / "trace.jsonl").open(encoding="utf-8") as file:
                return int(json.loads(file.readline()).get("train_size", 0))
        return 0

    def is_finished(self, run: Run) -> bool:
        """It has a result that another attempt would not change: it is done, or it has diverged."""
        return self._is_finished(run.place)

    def _is_finished(self, place: str) -> bool:
        facts = self._result(place)
        return facts is not None and (facts.get("status") == "done" or facts.get("ended_by") == "diverged")

    def note(self, name: str = "events.jsonl", **event: Any) -> None:
        """Adds a line to events.jsonl, or to another file of that kind: each has one writer at a time."""
        line = json.dumps({"time": round(time.time(), 3), **event}) + "\n"
        with self._writing(), (self.path / name).open("ab+") as file:
            file.write(("" if _ends_whole(file) else "\n").encode() + line.encode())

    def events(self) -> list[dict[str, Any]]:
        """All whole lines of events.jsonl, and of those that jobs on a cluster have written, by time."""
        found: list[dict[str, Any]] = []
        for path in (self.path / "events.jsonl", *sorted(self.path.glob("submissions/*/*/*/events.jsonl"))):
            with suppress(OSError):
                text = path.read_text(encoding="utf-8")
                for line in text[: text.rfind("\n") + 1].splitlines():
                    with suppress(ValueError):  # the stump of a line that a full disk did not take
                        found.append(json.loads(line))
        return sorted(found, key=lambda event: event.get("time", 0.0))

    def failures(self) -> dict[str, dict[str, Any]]:
        """The last failure of each run, by place, that no later success has mended.

        What a run has come to says its result: whoever made it may have been killed before saying so.
        """
        last = {event["run"]: event for event in self.events() if event.get("kind") in ("failed", "finished")}
        failed = {place: event for place, event in last.items() if event["kind"] == "failed"}
        return {place: event for place, event in failed.items() if not self._is_finished(place)}

    def read(self, name: str) -> Any:
        """A JSON file of the folder; {} where there is none."""
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return {}

    def picks(self) -> dict[str, float]:
        """The factors of lr that tuning has chosen, by group of cells.

        Raises:
            RunError: the file holds something else.
        """
        found = self.read(PICKS)
        if not isinstance(found, dict) or not all(type(factor) in (int, float) for factor in found.values()):
            raise RunError(
                f"{self.path / PICKS}",
                "it holds a factor of lr for each group of cells, and nothing else",
                "put the file back as it was; without it, tuning chooses again",
            )
        return found

    def write(self, name: str, content: Any) -> None:
        """Writes a JSON file of the folder, whole or not at all."""
        self.write_text(name, json.dumps(content, indent=1) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Writes a file of the folder, whole or not at all."""
        with self._writing():
            write_whole(self.path / name, text)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the study against a second `study run`.

        Workers inherit the lock: where a study was killed, the next one waits until its last worker has ended, so
        that no run is ever written by two.

        Raises:
            RunError: somebody else works on it.
        """
        with self._writing():
            file = (self.path / "lock").open("a+", encoding="utf-8")
        with file:
            self._take(file)
            file.truncate(0)
            file.write(json.dumps({"process": os.getpid(), "host": os.uname().nodename}))
            file.flush()
            self.lock_number = file.fileno()
            try:
                yield
            finally:
                self.lock_number = None

    def holder(self) -> str:
        """Who works on the study now; empty where nobody does."""
        try:
            with (self.path / "lock").open("r", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            facts = self.read("lock")
            return f"process {facts.get('process', 'unknown')} on {facts.get('host', 'an unknown host')}"
        except OSError:
            pass
        return ""

    def _take(self, file: IO[str]) -> None:
        patience = time.monotonic() + LAST_WORKER
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                facts = self.read("lock")
                if _lives(facts) or time.monotonic() > patience:
                    break
            except OSError as error:
                raise RunError(
                    f"study folder {self.path}", f"it cannot be locked: {error.strerror}", "put it on another disk"
                ) from error
            time.sleep(0.1)
        raise RunError(
            f"study folder {self.path}",
            f"another `study run` works on it: {self.holder() or 'it has ended just now'}",
            f"wait for it, or stop it first; hvd-adam study status {self.path} shows how far it is",
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"study folder {self.path}",
                f"it cannot be written: {error.strerror or error}",
                f"{_FREE.get(error.errno or 0, 'see what is there')}, or name another folder with --folder; the same "
                "command then goes on",
            ) from error


def _lives(holder: dict[str, Any]) -> bool:
    """Whether the process that took the lock is still there; of other hosts one cannot know."""
    if holder.get("host") != os.uname().nodename:
        return bool(holder)
    try:
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return False
    except (OSError, KeyError, ValueError):
        return True
    return True


def _ends_whole(file: IO[bytes]) -> bool:
    """Whether nothing was cut short at its end."""
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
