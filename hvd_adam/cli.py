"""The command line. Each command imports what it needs when it runs: --help costs no torch."""

from __future__ import annotations

import difflib
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import click

from hvd_adam.errors import HvdAdamError

GRACE = 3.0  # seconds that rank 0 gets to say what all ranks met, before another rank speaks


class _Commands(click.Group):
    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(self.list_commands(ctx))}."
            ctx.fail(f"there is no command {name!r}. {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands)
@click.version_option(package_name="hvd_adam")
def cli() -> None:
    """Generic Adam over Horovod and MPI."""


@cli.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--run", metavar="DIR", help="Where the run writes; a new folder under runs/ by default.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint; start where there is none.")
@click.option("--print-config", is_flag=True, help="Show the resolved config and stop.")
def train(config: str, overrides: tuple[str, ...], run: str | None, resume: bool, print_config: bool) -> None:
    """Train as CONFIG says: alone, or the same command under any launcher."""
    from hvd_adam.config import load
    from hvd_adam.training.preemption import StopRequest

    stop = StopRequest()
    resolved = load(config, overrides)
    if print_config:
        from hvd_adam.training.preparation import check_task

        check_task(resolved)
        click.echo(resolved.to_yaml(), nl=False)
        return
    from hvd_adam.training.loop import train as start
    from hvd_adam.training.summary import summarise

    result = start(resolved, run, resume, click.echo, stop)
    if result is None:
        return
    click.echo(summarise(result))
    if result.stopped:
        sys.exit(75)


@cli.group(cls=_Commands)
def data() -> None:
    """Fetch data sets once, and check them: training never downloads."""


@data.command("get")
@click.argument("name")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of all data; $HVD_ADAM_DATA by default.")
def data_get(name: str, root: Path | None) -> None:
    """Fetch the data set NAME unless it is there, and verify it."""
    from hvd_adam import data as sets

    sets.get(name, root, click.echo)


@data.command("verify")
@click.argument("name")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of all data; $HVD_ADAM_DATA by default.")
def data_verify(name: str, root: Path | None) -> None:
    """Compare the checksums of the data set NAME."""
    from hvd_adam import data as sets

    click.echo(f"{name}: in {sets.verify(name, root)}, checksums agree")


@cli.command()
@click.option("--run", is_flag=True, help="Also start two ranks and time an allreduce.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
def doctor(run: bool, as_json: bool) -> None:
    """Say what is wrong with this machine and environment, and what cures it."""
    from hvd_adam.doctor.command import run_doctor

    sys.exit(run_doctor(deep=run, as_json=as_json))


def main() -> None:
    """Runs a command; a user's mistake ends with one message and its exit code, said once for all ranks."""
    try:
        cli(standalone_mode=False)
    except HvdAdamError as error:
        _leave(f"hvd-adam: {error}", error.exit_code)
    except click.ClickException as error:
        _leave(f"hvd-adam: {error.format_message()}\n  Try: hvd-adam --help", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _leave("hvd-adam: interrupted; what was written is whole, and --resume goes on from it.", 130)


def _leave(message: str, code: int) -> NoReturn:
    """Rank 0 speaks, and its end makes the launcher end the others; one that outlives it speaks for itself."""
    rank = _rank()
    if rank:
        time.sleep(GRACE)
        message = f"hvd-adam: rank {rank} on {socket.gethostname()} failed.\n{message}"
    click.echo(message, err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    if rank is None:
        sys.exit(code)
    os._exit(code)  # not sys.exit: closing MPI would wait for the ranks that this end is to stop


def _rank() -> int | None:
    """This process's rank as its launcher says it; None where it was started alone."""
    for name in ("OMPI_COMM_WORLD_RANK", "HOROVOD_RANK", "PMI_RANK", "SLURM_PROCID"):
        if name in os.environ and (name != "SLURM_PROCID" or "SLURM_STEP_NUM_TASKS" in os.environ):
            return int(os.environ[name])
    return None
