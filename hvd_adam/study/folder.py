"""A study's folder: what it was planned as, who works on it, and what happened.

study.yaml       the resolved study          CELL/seed-K/   the run directories
events.jsonl     one line for each attempt   picks.json     the learning rates that tuning chose
costs.json       seconds a step, by cell     lock           held while `study run` works
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from hvd_adam import config_file
from hvd_adam.config import from_plain as run_from_plain
from hvd_adam.config import identity
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.study.config import StudyConfig, from_plain
from hvd_adam.study.plan import Plan, Run


class Folder:
    """The place of one study, runs/NAME unless said otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, run: Run) -> Path:
        """The run directory of a run."""
        return self.path / run.place

    def study(self) -> StudyConfig:
        """The study that this folder belongs to.

        Raises:
            ConfigError: there is none, or it cannot be read.
        """
        file = self.path / "study.yaml"
        if not file.is_file():
            raise ConfigError(
                f"{self.path}", "it holds no study: there is no study.yaml", "give the folder that `study run` made"
            )
        return from_plain(config_file.read(file))

    def open(self, study: StudyConfig) -> None:
        """Makes the folder, or takes up the study that lies there.

        Raises:
            ConfigError: another study lies there; says what differs.
            RunError: it cannot be written.
        """
        file = self.path / "study.yaml"
        if file.is_file():
            self._refuse_other(study)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _write(file, study.to_yaml())
        except OSError as error:
            raise RunError(
                f"study folder {self.path}", f"it cannot be written: {error.strerror}", "name another with --folder"
            ) from error

    def _refuse_other(self, study: StudyConfig) -> None:
        """More seeds, other expectations and other caps are the same study; anything else is not."""
        here = self.study()
        free = {"seeds", "expect", "retries", "max_node_hours", "ranks"}
        differ = [
            key for key, value in study.model_dump().items() if key not in free and value != here.model_dump()[key]
        ]
        if differ:
            told = "; ".join(
                f"{key} is {_short(getattr(here, key))} there, {_short(getattr(study, key))} here" for key in differ
            )
            raise ConfigError(
                f"study folder {self.path}", f"another study lies there: {told}", "give this one another name"
            )

    def changed_runs(self, plan: Plan) -> list[str]:
        """Places whose run directory belongs to another config than the plan's."""
        found = []
        for run in plan.runs:
            file = self.of(run) / "config.yaml"
            if not file.is_file():
                continue
            there = identity(run_from_plain(config_file.read(file)))
            if there != identity(run_from_plain(dict(run.config))):
                found.append(run.place)
        return found

    def result(self, run: Run) -> dict[str, Any] | None:
        """result.json of a run that has ended; None where there is none, or it cannot be read."""
        try:
            facts = json.loads((self.of(run) / "result.json").read_text())
        except (OSError, ValueError):
            return None
        return facts if isinstance(facts, dict) else None

    def is_finished(self, run: Run) -> bool:
        """It has a result that another attempt would not change: it is done, or it has diverged."""
        facts = self.result(run)
        return facts is not None and (facts.get("status") == "done" or facts.get("ended_by") == "diverged")

    def note(self, **event: Any) -> None:
        """Adds a line to events.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), **event}) + "\n"
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line)

    def events(self) -> list[dict[str, Any]]:
        """All whole lines of events.jsonl."""
        try:
            text = (self.path / "events.jsonl").read_text(encoding="utf-8")
        except OSError:
            return []
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def failures(self) -> dict[str, dict[str, Any]]:
        """The last failure of each run, by place, that no later success has mended."""
        last = {event["run"]: event for event in self.events() if event.get("kind") in ("failed", "finished")}
        return {place: event for place, event in last.items() if event["kind"] == "failed"}

    def read(self, name: str) -> Any:
        """A JSON file of the folder; {} where there is none."""
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return {}

    def write(self, name: str, content: Any) -> None:
        """Writes a JSON file of the folder, whole or not at all."""
        _write(self.path / name, json.dumps(content, indent=1) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the study against a second `study run`; the lock goes with the process that holds it.

        Raises:
            RunError: somebody else works on it.
        """
        with (self.path / "lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                raise RunError(
                    f"study folder {self.path}",
                    f"another `study run` works on it: {file.read().strip() or 'unknown'}",
                    "wait for it, or stop it first; `hvd-adam study status` shows how far it is",
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
            file.flush()
            yield


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _short(value: Any) -> str:
    plain = value.model_dump(exclude_none=True) if hasattr(value, "model_dump") else value
    text = yaml.safe_dump(plain, default_flow_style=True).strip().removesuffix("...").strip()
    return text if len(text) <= 80 else text[:77] + "..."
