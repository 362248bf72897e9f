"""Finds a reproduction by name, runs it, and leaves its folder complete."""

from __future__ import annotations

import difflib
import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Callable

from hvd_adam.errors import ConfigError, RunError
from hvd_adam.reproduce import NAMES
from hvd_adam.reproduce.report import NO, UNDECIDED, Statement


def run_reproduction(name: str, quick: bool, folder: str | None, say: Callable[[str], None]) -> int:
    """Makes `name` again; returns the exit code.

    Raises:
        ConfigError: there is no such reproduction.
        RunError: the folder cannot be written.
    """
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        cure = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(NAMES)}"
        raise ConfigError(f"reproduce: {name}", f"there is no such figure; there are {', '.join(NAMES)}", cure)
    path = Path(folder or f"runs/reproduce/{name}{'-quick' if quick else ''}")
    module = importlib.import_module(f"hvd_adam.reproduce.{name.replace('-', '_')}")
    begun = time.monotonic()
    with _written(path):
        path.mkdir(parents=True, exist_ok=True)
    report = module.reproduce(path, quick, f"hvd-adam reproduce {name}{' --quick' if quick else ''}")
    if quick:
        report.statements = [_undecided(one) for one in report.statements]
    report.seconds = round(time.monotonic() - begun, 1)
    with _written(path):
        report.save(path)
    say(report.verdict_text())
    say(f"  written to {path}")
    return report.exit_code


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"folder {path}",
            f"it cannot be written: {error.strerror or error}",
            "name one that you may write with --run",
        ) from error


def _undecided(statement: Statement) -> Statement:
    """Few runs, or short ones, refute nothing."""
    return replace(statement, verdict=UNDECIDED) if statement.verdict == NO else statement
