"""hvd-adam data get | verify."""

from __future__ import annotations

from pathlib import Path

import click

from hvd_adam.commands.group import NearestGroup

_FOLDER = click.Path(path_type=Path, readable=False)  # reading it says why it cannot be read
_ROOT = click.option("--root", type=_FOLDER, help="Folder of all data; $HVD_ADAM_DATA by default.")


@click.group(cls=NearestGroup)
def data() -> None:
    """Fetch data sets once, and check them: training never downloads."""


@data.command("get")
@click.argument("name")
@_ROOT
def data_get(name: str, root: Path | None) -> None:
    """Fetch the data set NAME unless it is there, and verify it."""
    from hvd_adam import data as sets

    sets.get(name, root, click.echo)


@data.command("verify")
@click.argument("name")
@_ROOT
def data_verify(name: str, root: Path | None) -> None:
    """Compare the checksums of the data set NAME."""
    from hvd_adam import data as sets

    click.echo(f"{name}: in {sets.verify(name, root)}, checksums agree")
