"""What the commands of `hvd-adam bench` share: how they speak, and how they end."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

import click

from hvd_adam.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])


def outputs(name: str, rounds: int) -> Callable[[Command], Command]:
    """The options that every command has: --rounds, --out, --json and --plot."""
    options = (
        click.option(
            "--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", callback=_drawable,
            help="Draw it: svg, png or pdf.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the JSON instead of tables."),
        click.option(
            "--out", type=click.Path(path_type=Path), metavar="FILE", default=f"runs/bench/{name}.json",
            show_default=True, help="Where the figures go.",
        ),
        click.option(
            "--rounds", type=click.IntRange(1), default=rounds, show_default=True, help="Of each; 5 give an interval."
        ),
    )  # fmt: skip

    def add(command: Command) -> Command:
        for option in options:
            command = option(command)
        return command

    return add


def _drawable(_: click.Context, __: click.Parameter, plot: Path | None) -> Path | None:
    """Before anything is timed."""
    if plot is not None:
        from hvd_adam.bench.picture import check_ending

        check_ending(plot)
    return plot


def finish(out: Path, as_json: bool, plot: Path | None, *shown: Any) -> None:
    """Prints tables and sentences, or what was kept; and draws it."""
    if as_json:
        click.echo(out.read_text(), nl=False)
    else:
        from hvd_adam.terminal import console

        printer = console()
        for one in shown:
            click.echo(one) if isinstance(one, str) else printer.print(one)
        click.echo(f"All of it: {out}")
    if plot is not None:
        from hvd_adam.bench.picture import draw

        draw(json.loads(out.read_text()), plot)


def tell(*lines: str) -> None:
    """Progress: not what the command was asked for."""
    for line in lines:
        click.echo(line, err=True)


@contextmanager
def keeping(path: Path) -> Iterator[None]:
    """Around the measuring: an interrupt says where lies what was measured, and ends with 130.

    Raises:
        ConfigError: the file cannot be written; before anything is measured.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        why = f"what is measured could not be kept there: {error.strerror}"
        raise ConfigError(f"--out {path}", why, "name another file") from error
    before = path.stat().st_mtime_ns if path.exists() else 0
    try:
        yield
    except KeyboardInterrupt:
        kept = path.exists() and path.stat().st_mtime_ns != before
        tell(f"interrupted: what was measured is in {path}" if kept else "interrupted: nothing was measured yet")
        sys.exit(130)
