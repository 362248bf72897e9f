"""How a study goes on: a live table on a terminal, a line for each run elsewhere."""

from __future__ import annotations

import sys
import time
from functools import partial
from types import TracebackType
from typing import Any

from hvd_adam.study.execute import Ended, in_one_line
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Plan
from hvd_adam.study.tables import Standing, live_table, status_table
from hvd_adam.terminal import console, patient, plural


class Progress:
    """A context within which `show` tells of each attempt that has ended."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.started = time.monotonic()
        self._say = patient(partial(print, flush=True))
        self._live: Any = None
        self._made: Plan | None = None
        self._standing = Standing(folder)
        self._told: set[str] = set()

    def __enter__(self) -> Progress:
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(console=console(), refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is None:
            return
        if self._made is not None:  # what stays on the terminal is the whole
            made = self._made
            self._live.update(status_table((*made.tuning, *made.cells), self._standing, self.folder.failures()))
        self._live.stop()

    def show(self, made: Plan, ended: Ended | None) -> None:
        """Tells of the plan, or of an attempt that has ended."""
        left = self._standing.left(made)
        if ended is None:
            self._tell_warnings(made)
        if self._live is not None:
            self._made = made
            self._live.update(live_table(made, self._standing, self.folder.failures(), self._live.console))
        elif ended is None:
            self._say(f"{len(made.runs)} runs, {left} of them left")
        else:
            self._say(self._line(ended, left))

    def tell(self, text: str) -> None:
        """Says a line; on a terminal above the table."""
        if self._live is not None:
            self._live.console.print(text)
        else:
            self._say(text)

    def _tell_warnings(self, made: Plan) -> None:
        for warning in made.warnings:
            if warning not in self._told:
                self.tell(f"note: {warning}")
                self._told.add(warning)

    def _line(self, ended: Ended, left: int) -> str:
        result = self._standing.finished(ended.run) or {}
        told = {"target": "reached its targets", "diverged": "diverged", "": "ended"}
        came = told.get(result.get("ended_by", ""), "ended its budget")
        if not result:
            came = f"failed: {in_one_line(ended.failed)}"
        clock = time.monotonic() - self.started
        at = f", step {result['step']:,}" if "step" in result else ""
        return f"{clock:6.1f} s  {ended.run.place}: {came}{at}; {plural(left, 'run')} left"
