"""hvd-adam train."""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--run", metavar="DIR", help="Where the run writes; a new folder under runs/ by default.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint; start where there is none.")
@click.option("--print-config", is_flag=True, help="Show the resolved config and stop.")
def train(config: str, overrides: tuple[str, ...], run: str | None, resume: bool, print_config: bool) -> None:
    """Train as CONFIG says: alone, or the same command under any launcher."""
    from hvd_adam.config import load
    from hvd_adam.terminal import flushed, patient
    from hvd_adam.training.preemption import StopRequest

    stop = StopRequest()
    resolved = load(config, overrides)
    if print_config:
        from hvd_adam.training.preparation import check_task

        check_task(resolved)
        click.echo(resolved.to_yaml(), nl=False)
        return
    from hvd_adam.training.loop import train as start
    from hvd_adam.training.progress import lines
    from hvd_adam.training.summary import summarise

    say = patient(click.echo)
    with lines(say) as shown:
        result = start(resolved, run, resume, shown.say, stop, follow=shown.follow)
    if result is None:
        return
    say(summarise(result, resolved.evaluate.test))
    flushed()
    if result.stopped:
        sys.exit(75)
