"""What a person reads: a number with its noun, how wide text is, and a rich console that prints data as they are."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

TEXT = 100  # columns of text at most, and where there is no terminal
GRACE = 3.0  # seconds that the rank that knows what happened gets to say it, before another speaks
_TABLE = 160  # columns of a table where there is no terminal


def plural(number: int, noun: str) -> str:
    """The number and its noun.

    >>> plural(1, "run"), plural(3, "run")
    ('1 run', '3 runs')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def columns() -> int:
    """How wide text may be: as the terminal is, 100 columns at most."""
    return min(TEXT, shutil.get_terminal_size().columns) if sys.stdout.isatty() else TEXT


def console() -> Any:
    """A rich console. Square brackets and words between colons are data, such as of an error, not rich's markup.

    Into a file or a pipe, tables are not squeezed to the width of a terminal that is not there.
    """
    from rich.console import Console

    return Console(
        soft_wrap=True, markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else _TABLE
    )


def complain(text: str) -> None:
    """Says something on standard error. A disk that does not take even that, as a job's log's, ends nothing."""
    if sys.stderr is not None:  # closed, as by 2>&-
        with contextlib.suppress(OSError):
            sys.stderr.write(f"hvd-adam: {text}\n")
            sys.stderr.flush()


def patient(plain: Callable[[str], None]) -> Callable[[str], None]:
    """Says lines through `plain`; a disk that takes none of them, as that of a job's log, does not end the work.

    What was printed waits in Python's buffer, and comes once there is room.
    """
    complained = False

    def say(line: str) -> None:
        nonlocal complained
        try:
            plain(line)
        except BrokenPipeError:  # nobody reads on, as after `| head`
            raise
        except OSError as error:
            if not complained:
                complain(f"the output cannot be written: {error.strerror}.\n  The work goes on.")
            complained = True

    return say


def flushed() -> OSError | None:
    """Sends out what was printed. Where that cannot be, it is dropped, or Python's own end would fail; and why not."""
    refusal = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            stream.flush()
            refusal = refusal or error
    return refusal
