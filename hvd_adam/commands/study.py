"""hvd-adam study plan | run | status; results are read in study_results, clusters met in study_submit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from hvd_adam.commands.group import NearestGroup
from hvd_adam.commands.study_results import COMMANDS
from hvd_adam.commands.study_submit import COMMANDS as ON_A_CLUSTER

_FOLDER = click.option("--folder", metavar="DIR", help="The study's folder; runs/NAME by default.")


@click.group(cls=NearestGroup)
def study() -> None:
    """Scaling studies: how far does it pay, is it linear, and how sure are we."""


@study.command("plan")
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@_FOLDER
@click.option("--timing/--no-timing", default=True, help="Time a few steps of each cell, where none are recorded.")
@click.option("--width", type=float, default=0.2, show_default=True, help="Wanted width of the slope's interval.")
def study_plan(config: str, overrides: tuple[str, ...], folder: str | None, timing: bool, width: float) -> None:
    """Show what CONFIG would run, and what it costs at most; nothing is run."""
    from hvd_adam.study import costs
    from hvd_adam.study.config import load
    from hvd_adam.study.continuing import refuse_other
    from hvd_adam.study.local import LocalExecutor
    from hvd_adam.study.plan import plan
    from hvd_adam.study.precision import precision
    from hvd_adam.study.tables import plan_table
    from hvd_adam.terminal import console, plural

    made_of = load(config, overrides)
    place = _place(made_of.name, folder)
    made = plan(made_of, place.picks())
    refuse_other(made_of, made, place)
    precise = precision(made_of, made, place, width)
    if timing:
        with LocalExecutor() as executor:
            found = costs.estimate(made_of, made, place, executor)
    else:
        found = costs.costs(made_of, made, costs.recorded(made, place).of)
    printer = console()
    printer.print(plan_table(found))
    runs = sum(cost.runs for cost in found)
    printer.print(f"{plural(runs, 'run')}; at most {_total(found)}; runs end at their targets:")
    for target in made_of.targets:
        printer.print(f"  {target}")
    for one in precise:
        printer.print(str(one))
    for warning in made.warnings:
        printer.print(f"note: {warning}")
    costs.refuse_over_cap(costs.known_hours(found), made_of.max_node_hours)


def _total(found: Any) -> str:
    from hvd_adam.study.figures import count, seconds

    hours = [cost.node_hours for cost in found]
    if None in hours:
        return "an unknown number of node-hours"
    return f"{count(sum(hours))} node-hours ({seconds(3600 * sum(hours))} on this machine alone)"


@study.command("run")
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@_FOLDER
@click.option("--cores", type=click.IntRange(min=1), help="Ranks at work at the same time; all cores by default.")
def study_run(config: str, overrides: tuple[str, ...], folder: str | None, cores: int | None) -> None:
    """Run CONFIG here. Stopped or killed, the same command goes on where it was."""
    from hvd_adam.study import costs
    from hvd_adam.study.condition import before_running
    from hvd_adam.study.config import load
    from hvd_adam.study.execute import run_study
    from hvd_adam.study.local import LocalExecutor
    from hvd_adam.study.progress import Progress

    made_of = load(config, overrides)
    place = _place(made_of.name, folder)

    def consent(made: Any) -> None:
        before_running(made, progress.tell)
        if made_of.max_node_hours is not None:
            with LocalExecutor(cores) as timing:
                found = costs.estimate(made_of, made, place, timing)
            costs.refuse_over_cap(costs.known_hours(found), made_of.max_node_hours)

    try:
        with Progress(place) as progress, LocalExecutor(cores) as executor:
            made = run_study(made_of, place, executor, progress.show, consent)
    except KeyboardInterrupt:
        click.echo("interrupted; finished runs stay, and the same command goes on from them", err=True)
        sys.exit(130)
    click.echo(f"everything is in {place.path}")
    failed = len(place.failures())
    waiting = sum(not cell.runs and not cell.refused for cell in made.cells)
    if failed:
        click.echo(f"{failed} runs failed: hvd-adam study status {place.path}", err=True)
    if waiting:
        click.echo(f"{waiting} cells wait for a learning rate, since runs that would pick it failed", err=True)
    if failed or waiting:
        sys.exit(1)


@study.command("status")
@click.argument("folder")
def study_status(folder: str) -> None:
    """Show how far the study in FOLDER is."""
    from hvd_adam.commands.study_submit import tell_of_queue
    from hvd_adam.study.folder import Folder
    from hvd_adam.study.plan import plan
    from hvd_adam.study.tables import Standing, status_table
    from hvd_adam.study.warnings import large_batches
    from hvd_adam.terminal import console

    place = Folder(Path(folder))
    made = plan(place.study(), place.picks())
    printer, standing, failures = console(), Standing(place), place.failures()
    printer.print(status_table((*made.tuning, *made.cells), standing, failures))
    holder = place.holder()
    printer.print(f"{standing.left(made):,} of {len(made.runs):,} runs left; {holder or 'nobody'} works on it")
    large = large_batches(made.cells, place.train_size(made.runs))
    for warning in dict.fromkeys((*made.warnings, *([large] if large else []))):
        printer.print(f"note: {warning}")
    tell_of_queue(place, made)
    for run, failure in failures.items():
        printer.print(f"\nfailed: {run}, attempt {failure.get('attempt')}, {place.path / 'workers'} may say more")
        printer.print(str(failure.get("reason")))


for _command in (*COMMANDS, *ON_A_CLUSTER):
    study.add_command(_command)


def _place(name: str | None, folder: str | None) -> Any:
    from hvd_adam.study.folder import Folder

    return Folder(Path(folder) if folder else Path("runs") / str(name))
