"""What a person reads: a number with its noun, how wide text is, and a rich console that prints data as they are."""

from __future__ import annotations

import shutil
import sys
from typing import Any

TEXT = 100  # columns of text at most, and where there is no terminal
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
