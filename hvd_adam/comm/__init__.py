"""Finds the ranks of this job. Nothing outside this folder imports horovod or mpi4py."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from types import TracebackType

import torch

from hvd_adam.comm.heap import keep_freed_memory
from hvd_adam.comm.launch import Launch, detect, sums_by
from hvd_adam.comm.protocol import World
from hvd_adam.errors import ConfigError, HvdAdamError, RunError
from hvd_adam.terminal import complain

ENGINES = ("horovod", "mpi", "solo")

__all__ = ["ENGINES", "Launch", "World", "detect", "init"]


def init(engine: str | None = None) -> World:
    """The world of this process.

    Args:
        engine: "horovod", "mpi" or "solo"; None takes Horovod under a launcher, solo without one.

    From here on an uncaught exception on any rank is printed once, with rank and host, and ends all ranks.

    Raises:
        ConfigError: an unknown engine, or HVD_ADAM_SUMS names nobody.
        RunError: the engine is not installed, or a launcher started N jobs of size 1.
    """
    if engine not in (None, *ENGINES):
        raise ConfigError(f"engine: {engine}", "there is no such engine", f"choose one of {', '.join(ENGINES)}")
    sums_by(os.environ)
    launch = detect(os.environ)
    asked = launch.ranks if launch else 1
    engine = engine or ("horovod" if asked > 1 else "solo")
    if engine == "solo" and launch and asked > 1:
        raise ConfigError(
            f"engine: solo, started on {asked} ranks by {launch.name}",
            "a solo job is one process: the ranks would not know of each other",
            "leave engine out, or start one process",
        )
    keep_freed_memory()
    world = _open(engine)
    if world.size != asked and launch is not None:
        raise RunError(
            f"{launch.name} was asked for {asked} ranks, and this rank sees a job of {world.size}",
            f"{launch.name} and the MPI behind {engine} do not speak to each other, so each process is a job alone",
            launch.cure,
        )
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    _end_together(world)
    return world


def _open(engine: str) -> World:
    try:
        if engine == "horovod":
            from hvd_adam.comm.horovod import HorovodWorld

            return HorovodWorld()
        if engine == "mpi":
            from hvd_adam.comm.mpi import MpiWorld

            return MpiWorld()
    except (ImportError, OSError, RuntimeError) as error:
        raise RunError(
            f"engine {engine} cannot be loaded: {str(error).strip().splitlines()[0]}",
            "it is not installed here, or was built against another torch or MPI",
            "run: make setup (hvd-adam doctor says more)",
        ) from error
    from hvd_adam.comm.solo import SoloWorld

    return SoloWorld()


def _end_together(world: World) -> None:
    """An exception that nobody catches ends every rank: a rank that is missed would hang the others."""

    def report(kind: type[BaseException], value: BaseException | None, trace: TracebackType | None) -> None:
        if world.size == 1:
            sys.__excepthook__(kind, value or kind(), trace)
            return
        lines = traceback.format_exception(kind, value, trace)
        text = f"hvd-adam: {value}\n" if isinstance(value, HvdAdamError) else "".join(lines)
        complain(f"rank {world.rank} on {world.host} failed; all ranks end.\n{text.rstrip()}")
        world.abort(1)

    sys.excepthook = report
    threading.excepthook = lambda args: report(args.exc_type, args.exc_value, args.exc_traceback)
