"""The command line: the commands, and how a user's mistake ends. What a command does is in commands/."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import traceback
from typing import NoReturn

import click

from hvd_adam.commands.bench import bench
from hvd_adam.commands.check import check
from hvd_adam.commands.data import data
from hvd_adam.commands.diagnose import diagnose
from hvd_adam.commands.doctor import doctor
from hvd_adam.commands.group import NearestGroup
from hvd_adam.commands.predict import predict
from hvd_adam.commands.probe import probe
from hvd_adam.commands.reproduce import reproduce
from hvd_adam.commands.study import study
from hvd_adam.commands.train import train
from hvd_adam.errors import HvdAdamError, RunError
from hvd_adam.terminal import GRACE, flushed


@click.group(cls=NearestGroup)
@click.version_option(package_name="hvd_adam")
def cli() -> None:
    """Generic Adam over Horovod and MPI."""


for _command in (train, check, data, doctor, diagnose, study, predict, probe, reproduce, bench):
    cli.add_command(_command)


def main() -> None:
    """Runs a command; a user's mistake ends with one message and its exit code, said once for all ranks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who started us; a run's file would get its number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    try:
        _run()
    except HvdAdamError as error:
        _leave(f"hvd-adam: {error}", error.exit_code)
    except click.ClickException as error:
        _leave(f"hvd-adam: {error.format_message()}\n  Try: hvd-adam --help", error.exit_code)
    except PermissionError as error:
        refused = RunError(f"{error.filename}: {error.strerror}", "it is read or written here", "open it for this user")
        _leave(f"hvd-adam: {refused}", refused.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _leave(f"hvd-adam: interrupted; what was written is whole{_onward()}.", 130)


def _run() -> None:
    """The command; what it says must arrive where it was sent."""
    refusal: OSError | None = None
    try:
        cli(standalone_mode=False)
    except OSError as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if frame.f_globals["__name__"].partition(".")[0] not in ("click", "rich"):  # which print
            raise
        refusal = error
    refusal = flushed() or refusal
    if refusal is not None:
        raise RunError(
            f"the output: {refusal.strerror}",
            "what this command says is written there",
            "free the disk, or send it elsewhere",
        )


def _onward() -> str:
    """How what was interrupted goes on."""
    words = sys.argv[1:3]
    if words[:1] == ["train"]:
        return ", and --resume goes on from the newest checkpoint, or from step 0 where there is none"
    return ", and the same command goes on from it" if words == ["study", "run"] else ""


def _leave(message: str, code: int) -> NoReturn:
    """Rank 0 speaks, and its end makes the launcher end the others; one that outlives it speaks for itself."""
    rank = _rank()
    if rank:
        time.sleep(GRACE)
        message = f"hvd-adam: rank {rank} on {socket.gethostname()} failed.\n{message}"
    with contextlib.suppress(OSError):  # a full disk is no reason for another exit code
        click.echo(message, err=True)
    _tell_batch_script(code)
    flushed()
    if rank is None:
        sys.exit(code)
    os._exit(code)  # not sys.exit: closing MPI would wait for the ranks that this end is to stop


def _tell_batch_script(code: int) -> None:
    """What a launcher ends with may be another rank's signal: the batch script reads here that we meant this code."""
    verdict = os.environ.get("HVD_ADAM_VERDICT")
    if verdict:
        with contextlib.suppress(OSError), open(verdict, "w") as file:
            file.write(f"{code}\n")


def _rank() -> int | None:
    """This process's rank as its launcher says it; None where it was started alone."""
    for name in ("OMPI_COMM_WORLD_RANK", "HOROVOD_RANK", "PMI_RANK", "SLURM_PROCID"):
        if name in os.environ and (name != "SLURM_PROCID" or "SLURM_STEP_NUM_TASKS" in os.environ):
            return int(os.environ[name])
    return None
