"""hvd-adam study plan | run | status."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from hvd_adam.commands.group import NearestGroup

_FOLDER = click.option("--folder", metavar="DIR", help="The study's folder; runs/NAME by default.")


@click.group(cls=NearestGroup)
def study() -> None:
    """Scaling studies: how far does it pay, is it linear, and how sure are we."""


@study.command("plan")
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@_FOLDER
@click.option("--timing/--no-timing", default=True, help="Time a few steps of each cell, where none are recorded.")
def study_plan(config: str, overrides: tuple[str, ...], folder: str | None, timing: bool) -> None:
    """Show what CONFIG would run, and what it costs at most; nothing is run."""
    from rich.console import Console

    from hvd_adam.study import costs
    from hvd_adam.study.config import load
    from hvd_adam.study.local import LocalExecutor
    from hvd_adam.study.plan import plan
    from hvd_adam.study.tables import plan_table

    made_of = load(config, overrides)
    place = _place(made_of.name, folder)
    made = plan(made_of, place.read("picks.json"))
    seconds = costs.recorded(made, place)
    if timing and not all(cell.group in seconds or cell.refused for cell in made.cells):
        seconds = {**costs.timed(made, LocalExecutor()), **seconds}
    found = costs.costs(made, len(made_of.seeds), seconds)
    console = Console(soft_wrap=True)
    console.print(plan_table(found))
    console.print(f"{sum(cost.runs for cost in found)} runs; at most {_total(found)}; runs end at their targets:")
    for target in made_of.targets:
        console.print(f"  {target}")
    for warning in made.warnings:
        console.print(f"note: {warning}")
    costs.refuse_over_cap(found, made_of.max_node_hours)


def _total(found: Any) -> str:
    hours = [cost.node_hours for cost in found]
    return "an unknown number of node-hours" if None in hours else f"{sum(hours):.3g} node-hours"


@study.command("run")
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@_FOLDER
@click.option("--cores", type=click.IntRange(min=1), help="Ranks at work at the same time; all cores by default.")
def study_run(config: str, overrides: tuple[str, ...], folder: str | None, cores: int | None) -> None:
    """Run CONFIG here. Stopped or killed, the same command goes on where it was."""
    from hvd_adam.study.config import load
    from hvd_adam.study.execute import run_study
    from hvd_adam.study.local import LocalExecutor
    from hvd_adam.study.progress import Progress

    made_of = load(config, overrides)
    place = _place(made_of.name, folder)
    with Progress(place) as progress:
        run_study(made_of, place, LocalExecutor(cores), progress.show)
    click.echo(f"everything is in {place.path}")
    if place.failures():
        click.echo(f"{len(place.failures())} runs failed: hvd-adam study status {place.path}", err=True)
        sys.exit(1)


@study.command("status")
@click.argument("folder")
def study_status(folder: str) -> None:
    """Show how far the study in FOLDER is."""
    from rich.console import Console

    from hvd_adam.study.folder import Folder
    from hvd_adam.study.plan import plan
    from hvd_adam.study.tables import status_table

    place = Folder(Path(folder))
    Console(soft_wrap=True).print(status_table(plan(place.study(), place.read("picks.json")), place))


def _place(name: str | None, folder: str | None) -> Any:
    from hvd_adam.study.folder import Folder

    return Folder(Path(folder) if folder else Path("runs") / str(name))
