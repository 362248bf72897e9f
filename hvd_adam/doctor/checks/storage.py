"""Can a run write, and is its data here?"""

from __future__ import annotations

from hvd_adam.doctor.environment import Environment
from hvd_adam.doctor.findings import Finding, fault, note, ok

GIB = 1 << 30
MIB = 1 << 20


def runs_are_writable(env: Environment) -> Finding:
    """Traces and checkpoints go there."""
    runs = env.storage.runs
    if runs.trouble:
        return fault(
            f"{runs.path} cannot be written: {runs.trouble}",
            "traces and checkpoints go to runs/ in the working folder",
            "cd to a folder that you may write, or: hvd-adam train ... --run DIR",
        )
    if runs.free < GIB:
        return note(
            f"{runs.free / MIB:.0f} MiB are free in {runs.path}",
            "a checkpoint holds three numbers a parameter: 134 MB for ResNet-18",
            "free some space, or: hvd-adam train ... --run DIR",
        )
    return ok(f"{runs.path} is writable, {runs.free / GIB:.0f} GiB free ({runs.kind or 'unknown file system'})")


def temporary_is_writable(env: Environment) -> Finding | None:
    """MPI keeps its sockets there."""
    temporary = env.storage.temporary
    if temporary.trouble is None:
        return None
    return fault(
        f"{temporary.path} cannot be written: {temporary.trouble}",
        "MPI and Python keep sockets and temporary files there, and fail to start without it",
        "export TMPDIR=/path/to/a/writable/folder",
    )


def shared_memory_is_large(env: Environment) -> Finding | None:
    """Ranks of one host exchange through it; containers often give 64 MiB."""
    memory = env.storage.shared_memory
    if memory.trouble:
        return note(
            f"{memory.path} cannot be written: {memory.trouble}",
            "ranks of one host then exchange through files in TMPDIR, or end with a bus error",
            "mount a tmpfs there (docker run --shm-size=1g)",
        )
    if memory.size >= 128 * MIB:
        return None
    return note(
        f"{memory.path} holds {memory.size / MIB:.0f} MiB",
        "ranks of one host exchange through it, and a full one ends them with a bus error",
        "docker run --shm-size=1g, or mount a larger tmpfs there",
    )


def data_is_here(env: Environment) -> Finding:
    """Training never downloads, so what it needs must be here before."""
    sets, data = env.storage.sets, env.storage.data
    here = [name for name, there in sets.items() if there]
    missing = [name for name, there in sets.items() if not there]
    if missing and data.trouble:
        return note(
            f"{data.path} cannot be written: {data.trouble}",
            f"data sets are fetched into it, and {', '.join(missing)} are not there yet",
            "export HVD_ADAM_DATA=/path/to/a/writable/folder",
        )
    fetched = f", {', '.join(here)} fetched" if here else ""
    rest = f"; not fetched: {', '.join(missing)} (hvd-adam data get NAME)" if missing else ""
    return ok(f"data: digits is bundled{fetched}{rest}")


CHECKS = (runs_are_writable, temporary_is_writable, shared_memory_is_large, data_is_here)
