"""What the commands of `hvd-adam bench` share: how they speak, and how they end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click


def tell(*lines: str) -> None:
    """Progress: not what the command was asked for."""
    for line in lines:
        click.echo(line, err=True)


@contextmanager
def keeping(path: Path) -> Iterator[None]:
    """Around the measuring: an interrupt says where lies what was measured, and ends with 130."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    try:
        yield
    except KeyboardInterrupt:
        kept = path.exists() and path.stat().st_mtime_ns != before
        tell(f"interrupted: what was measured is in {path}" if kept else "interrupted: nothing was measured yet")
        sys.exit(130)
