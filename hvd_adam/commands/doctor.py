"""hvd-adam doctor."""

from __future__ import annotations

import sys

import click


@click.command()
@click.option("--run", is_flag=True, help="Also start two ranks and time an allreduce.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
def doctor(run: bool, as_json: bool) -> None:
    """Say what is wrong with this machine and environment, and what cures it."""
    from hvd_adam.doctor.command import run_doctor

    sys.exit(run_doctor(deep=run, as_json=as_json))
