"""hvd-adam reproduce."""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("name")
@click.option("--quick", is_flag=True, help="Few runs, seconds: shows that it works, proves nothing.")
@click.option("--run", "folder", metavar="DIR", help="Where it writes; runs/reproduce/NAME by default.")
def reproduce(name: str, quick: bool, folder: str | None) -> None:
    """Make a figure or a claim of the paper again: figure-1, figure-4, reddi, speedup-law.

    Exit code: 0 all statements agree, 5 one differs, 6 one is undecided.
    """
    from hvd_adam.reproduce.command import run_reproduction

    sys.exit(run_reproduction(name, quick, folder, click.echo))
