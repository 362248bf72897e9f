"""How a study goes on: a live table on a terminal, a line for each run elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from hvd_adam.study.execute import Ended
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Plan
from hvd_adam.study.tables import status_table


class Progress:
    """A context within which `show` tells of each attempt that has ended."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.started = time.monotonic()
        self._live: Any = None
        self._ended = 0

    def __enter__(self) -> Progress:
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, made: Plan, ended: Ended | None) -> None:
        """Tells of the plan, or of an attempt that has ended."""
        self._ended += ended is not None
        if self._live is not None:
            self._live.update(status_table(made, self.folder))
        elif ended is not None:
            print(self._line(made, ended), flush=True)

    def _line(self, made: Plan, ended: Ended) -> str:
        left = sum(not self.folder.is_finished(run) for run in made.runs)
        result = self.folder.result(ended.run) or {}
        told = {"target": "reached its targets", "steps": "ended its budget", "time": "ended its budget"}
        came = ended.failed.splitlines()[0] if ended.failed else told.get(result.get("ended_by", ""), "ended")
        clock = time.monotonic() - self.started
        return f"{clock:6.1f} s  {ended.run.place}: {came}, step {result.get('step', 0)}; {left} runs left"
