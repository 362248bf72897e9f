"""What a person sees of a run while it goes on: plain lines and, on a terminal, one more below them that moves."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from hvd_adam.comm import detect

PAUSE = 0.1  # seconds between two looks of the moving line
Say = Callable[[str], None]
Follow = Callable[[int, int, float, float], None]  # step, of how many, loss, samples a second


@dataclass(frozen=True)
class Lines:
    """say prints a line; follow, where there is a terminal, moves the line below."""

    say: Say
    follow: Follow | None = None


@contextmanager
def lines(plain: Say) -> Iterator[Lines]:
    """Plain lines through `plain`, and a moving one where rank 0 writes to a terminal; it is gone afterwards."""
    width = terminal_width(os.environ, sys.stdout)
    if width is None:
        yield Lines(plain)
        return
    moving = _Moving(width)
    try:
        yield Lines(moving.say, moving.follow)
    finally:
        moving.stop()


def terminal_width(environ: Mapping[str, str], stream: TextIO) -> int | None:
    """Columns of the terminal behind `stream`; None where there is none that could move a line.

    mpirun gives its ranks a terminal even where its own output is a file, so under a launcher only the word of the
    launcher counts: HVD_ADAM_TERMINAL, the columns, which launchers/ set and a user may.
    """
    if environ.get("TERM", "dumb") == "dumb":
        return None
    said = environ.get("HVD_ADAM_TERMINAL", "")
    if said.isdigit():
        return int(said) or None
    if detect(environ) or not stream.isatty():
        return None
    return os.get_terminal_size(stream.fileno()).columns or 80


class _Moving:
    def __init__(self, width: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(force_terminal=True, width=width, highlight=False, markup=False)
        self._progress = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.4g}  {task.fields[rate]:,.0f} samples/s"),
            TimeRemainingColumn(),
            console=self._console,
            auto_refresh=False,
            transient=True,
        )
        self._task: Any = None
        self._shown = 0.0

    def say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)

    def follow(self, step: int, steps: int, loss: float, rate: float) -> None:
        if self._task is None:
            self._task = self._progress.add_task("", total=steps, completed=step, loss=loss, rate=rate)
            self._progress.start()
        now = time.monotonic()
        self._progress.update(self._task, completed=step, loss=loss, rate=rate)
        if now - self._shown >= PAUSE:
            self._shown = now
            self._progress.refresh()

    def stop(self) -> None:
        self._progress.stop()
