"""hvd-adam study submit | cancel, and make | pick, which their jobs run."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click


@click.command("submit")
@click.argument("config")
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]... [-- SBATCH_OPTION...]")
@click.option("--folder", metavar="DIR", help="The study's folder; runs/NAME by default.")
@click.option("--dry-run", is_flag=True, help="Show calls of sbatch, script and node-hours; submit nothing.")
@click.option("--resubmit", type=click.Choice(["failed", "missing"]), multiple=True, help="Runs that ended without a "
              "result, or whose jobs were cancelled before they began.")  # fmt: skip
@click.option("--tasks-per-node", type=click.IntRange(min=1), default=1, show_default=True, help="Ranks on a node.")
@click.option("--at-once", type=click.IntRange(min=1), default=8, show_default=True, help="Allocations of one size.")
@click.option("--pack", metavar="MINUTES", type=click.FloatRange(min=0), default=10.0, show_default=True,
              help="Runs go into one allocation, one after the other, until they would take longer.")  # fmt: skip
@click.option("--array-size", type=click.IntRange(min=1), help="Most elements of a job array; Slurm's by default.")
@click.option("--timing/--no-timing", default=True, help="Time a few steps of each cell here, where none are recorded.")
def study_submit(
    config: str, words: tuple[str, ...], folder: str | None, dry_run: bool, resubmit: tuple[str, ...],
    tasks_per_node: int, at_once: int, pack: float, array_size: int | None, timing: bool,
) -> None:  # fmt: skip
    """Give CONFIG to Slurm: job arrays, one for each size of allocation, and a report at the end.

    What stands after -- and begins with a dash is handed to sbatch: -- --partition=NAME --time=04:00:00
    """
    from hvd_adam.study.config import load
    from hvd_adam.study.slurm import Slurm
    from hvd_adam.study.submission import Wish, parted

    overrides, options = parted(words)
    made_of = load(config, overrides)
    slurm = Slurm()
    wish = Wish(at_once, 60 * pack, tasks_per_node, array_size or slurm.most_elements(), options)
    place = _place(made_of.name, folder)
    if dry_run:
        _submit(made_of, place, slurm, wish, resubmit, timing, dry_run=True)
        return
    place.make()
    with place.locked():
        _submit(made_of, place, slurm, wish, resubmit, timing, dry_run=False)


def _submit(made_of: Any, place: Any, slurm: Any, wish: Any, resubmit: Any, timing: bool, dry_run: bool) -> None:
    from hvd_adam.study import submit
    from hvd_adam.study.condition import before_running
    from hvd_adam.study.continuing import refuse_other
    from hvd_adam.study.costs import refuse_over_cap
    from hvd_adam.study.plan import plan
    from hvd_adam.study.slurm import script
    from hvd_adam.study.submission import line, refuse_over_nodes
    from hvd_adam.terminal import plural

    made = plan(made_of, place.picks())
    refuse_other(made_of, made, place)
    queue = slurm.queue() if slurm.is_here() or not dry_run else []
    found = submit.standing(made_of, made, place, queue)
    submit.refuse_changed_in_queue(made_of, made, place, found)
    runs = submit.wanted(found, resubmit)
    _tell_of_standing(found, runs, resubmit)
    if not runs:
        return
    before_running(made, click.echo)
    seconds, start = _seconds(made_of, made, place, timing)
    if start is not None:
        wish = replace(wish, start_seconds=start)
    ready = submit.prepare(made_of, made, place, runs, seconds, wish, queue)
    hours = ready.node_hours
    for array in ready.arrays:
        runs_in = f"{plural(sum(map(len, array.packs)), 'run')} in {plural(len(array.packs), 'allocation')}"
        click.echo(f"{array.name}: {runs_in} of {plural(array.nodes(wish), 'node')}")
    click.echo(f"at most {f'{hours:.3g}' if hours is not None else 'an unknown number of'} node-hours")
    refuse_over_cap(hours, made_of.max_node_hours)
    there = slurm.nodes(wish.options)
    if there is not None:
        refuse_over_nodes(ready.arrays, wish, *there)
    file = script("study.sbatch")
    if dry_run:
        for command in submit.dry(ready, file):
            click.echo(f"+ {line(command)}")
        click.echo(f"\n{file}:\n{file.read_text()}")
        return
    place.keep(made_of)
    ids = submit.submit(made_of, place, ready, slurm, file, lambda command: click.echo(f"+ {line(command)}"))
    click.echo(f"submitted as {', '.join(ids)}; hvd-adam study status {place.path} shows how far it is")


def _seconds(made_of: Any, made: Any, place: Any, timing: bool) -> tuple[dict[str, float | None], float | None]:
    """Of one run of each cell at most, and of an allocation's start: as recorded, or timed here for a moment."""
    from hvd_adam.study import costs
    from hvd_adam.study.local import LocalExecutor

    known = costs.recorded(made, place)
    if timing and not costs.groups(made) <= set(known.of):
        with LocalExecutor() as executor:
            known = known.with_older(costs.timed(made, executor))
        place.make()
        place.write("costs.json", known.to_plain())  # so that what is submitted is what --dry-run has shown
    found = costs.costs(made_of, made, known.of)
    return {cost.cell.name: cost.run_seconds for cost in found}, known.start


def _tell_of_standing(found: Any, runs: Any, resubmit: Any) -> None:
    from hvd_adam.terminal import plural

    told = [f"{plural(len(runs), 'run')} to submit"]
    for name, say in (("done", "done"), ("live", "queued or running"), ("failed", "failed"), ("missing", "missing")):
        count = len(getattr(found, name))
        if count and name not in resubmit:
            told.append(f"{count} {say}" + (f" (--resubmit {name})" if name in ("failed", "missing") else ""))
    click.echo("; ".join(told))


@click.command("cancel")
@click.argument("folder")
def study_cancel(folder: str) -> None:
    """Cancel all jobs of the study in FOLDER. Results stay; what had begun resumes with --resubmit failed."""
    from hvd_adam.study.slurm import Slurm
    from hvd_adam.study.submitted import Submitted

    place = _place(None, folder)
    place.study()
    slurm = Slurm()
    mine = set(Submitted(place).ids())
    live = sorted({one.job for one in slurm.queue() if one.job in mine}, key=int)
    if live:
        slurm.cancel(live)
    click.echo(f"cancelled {', '.join(live)}" if live else f"no job of {place.path} is queued or running")


@click.command("make", hidden=True)
@click.argument("folder")
@click.argument("submission", type=int)
@click.argument("array")
@click.argument("element", type=int)
def study_make(folder: str, submission: int, array: str, element: int) -> None:
    """Make the runs of one allocation: what slurm/study.sbatch starts on its ranks."""
    from hvd_adam.training.preemption import StopRequest

    stop = StopRequest()
    from hvd_adam.study.element import make
    from hvd_adam.study.submitted import Submitted

    place = _place(None, folder)
    submitted = Submitted(place)
    if not make(
        place, submitted.element(submission, array, element), submitted.arrays(submission)[array]["engine"], stop
    ):
        sys.exit(75)


@click.command("pick", hidden=True)
@click.argument("folder")
def study_pick(folder: str) -> None:
    """Write the learning rates that tuning chose: what slurm/study.sbatch does between tuning and the study's cells."""
    from hvd_adam.study.execute import picked
    from hvd_adam.study.plan import plan

    place = _place(None, folder)
    study = place.study()
    made = picked(study, plan(study, place.picks()), place)
    waiting = sum(not cell.runs and not cell.refused for cell in made.cells)
    click.echo(f"{len(made.cells) - waiting} cells have a learning rate; {waiting} wait for one")


def tell_of_queue(place: Any, made: Any) -> None:
    """What Slurm says of a study that was submitted: a line for each allocation that it has."""
    from hvd_adam.errors import HvdAdamError
    from hvd_adam.study.queue import lines
    from hvd_adam.study.slurm import Slurm
    from hvd_adam.study.submitted import Submitted

    if not Submitted(place).numbers():
        return
    try:
        queue = Slurm().queue()
    except HvdAdamError as error:
        click.echo(f"note: of its jobs nothing is known: {error.found}")
        return
    for said in lines(place, made, queue):
        click.echo(said)


def _place(name: str | None, folder: str | None) -> Any:
    from hvd_adam.study.folder import Folder

    return Folder(Path(folder) if folder else Path("runs") / str(name))


COMMANDS = (study_submit, study_cancel, study_make, study_pick)
