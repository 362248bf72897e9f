"""hvd-adam diagnose."""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, readable=False))
def diagnose(run: str) -> None:
    """Say which rank of RUN holds the others up: in which phase, since when. Exit code 4 where the run is stuck."""
    from pathlib import Path

    from hvd_adam.doctor.slurm_view import of_job
    from hvd_adam.doctor.standstill import judge
    from hvd_adam.training.heartbeat import look

    beats, now = look(Path(run))
    verdict = judge(beats, now)
    for line in (*verdict.lines, *of_job(next((beat["job"] for beat in beats if beat["job"]), None))):
        click.echo(line)
    if verdict.stuck:
        sys.exit(4)
