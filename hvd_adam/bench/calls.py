"""Whole programs, started and timed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Collection, Sequence

from hvd_adam.errors import RunError


def timed(command: Sequence[str], fine: Collection[int] = (0,)) -> float:
    """Seconds from the start of a program to its end.

    Raises:
        RunError: it ends with a code that is not fine.
    """
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in fine:
        raise failed(command, done.returncode, done.stdout + done.stderr)
    return time.perf_counter() - started


def failed(command: Sequence[str], code: int, said: str) -> RunError:
    """What to raise of a program that has ended with such a code, and printed that."""
    last = "\n    ".join(said.strip().splitlines()[-8:])
    return RunError(f"{' '.join(command[:6])} ended with {code}", f"it printed:\n    {last}", "mend that first")
