"""One job in a run directory at a time: two would write one trace, and take each other's checkpoints for their own.

    RUN/lock    {"host": "n2", "process": 4711, "job": "71_3", "since": "2026-11-24 23:58:46"}

The file is locked as long as rank 0 lives, and emptied at an orderly end. Where the file system does not lock between
nodes, what is written there says who it was, and Slurm, or the heartbeat, whether it still is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from hvd_adam.comm.launch import slurm_job
from hvd_adam.comm.protocol import World
from hvd_adam.errors import RunError
from hvd_adam.optim.agreement import from_root
from hvd_adam.training.heartbeat import FOLDER, INTERVAL

LOCK = "lock"
WATCH = 2 * INTERVAL + 2  # seconds after which a heartbeat that lives has changed
ENDING = 3.0  # seconds that one that was killed takes to end
PATIENCE = 10.0  # seconds for a controller that may be down


class InUse(RunError):
    """Another job trains in this run directory: exit code 1."""


@contextlib.contextmanager
def held(world: World, run: Path) -> Iterator[None]:
    """A context in which no other job trains in `run`: rank 0 takes it, all ranks learn of it, or of why not.

    Raises:
        InUse: another job does.
        RunError: the lock cannot be written.
    """
    locks: list[IO[str]] = []  # of rank 0
    from_root(world, lambda: locks.append(_take(run)))
    try:
        yield
    finally:
        for lock in locks:
            with contextlib.suppress(OSError):  # a full disk, or the folder is gone
                lock.truncate(0)
            lock.close()


def _take(run: Path) -> IO[str]:
    try:
        file = (run / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        why = f"it cannot be written: {error.strerror or error}"
        raise RunError(f"run directory {run}", why, "name a folder that you may write with --run") from error
    locks = _lock(file)
    if locks is False:
        file.close()
        raise _in_use(run, _owner(run))
    owner = _owner(run)
    if owner and _lives(owner, run, bool(locks)):
        file.close()
        raise _in_use(run, owner)
    with contextlib.suppress(OSError):  # where the disk is full the lock itself still holds
        file.truncate(0)
        file.write(json.dumps(_self()) + "\n")
        file.flush()
    return file


def _lock(file: IO[str]) -> bool | None:
    """Whether the lock is ours; None where the file system has none. A job before us may be ending just now."""
    deadline = time.monotonic() + ENDING
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        except OSError:
            return None


def _self() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "job": slurm_job(os.environ),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _owner(run: Path) -> dict[str, Any]:
    """Who wrote the lock; {} where it was left in good order, or nobody can tell."""
    try:
        found = json.loads((run / LOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lives(owner: dict[str, Any], run: Path, locks: bool) -> bool:
    """Whether the owner of a lock that could be taken is still at work."""
    me = _self()
    if owner.get("job") and owner["job"] == me["job"]:
        return False  # this job's own earlier start, which Slurm has ended
    if owner.get("host") == me["host"]:
        return not locks and _is_alive(owner.get("process"))
    state = _state(str(owner.get("job") or ""))
    return _beats(run) if state is None else state in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED")


def _is_alive(process: Any) -> bool:
    try:
        os.kill(int(process), 0)
    except (OSError, TypeError, ValueError) as error:
        return isinstance(error, PermissionError)
    return True


def _state(job: str) -> str | None:
    """What Slurm says of a job, "" of one that it does not know any more; None where it cannot be asked."""
    if not job or shutil.which("squeue") is None:
        return None
    command = ["squeue", "--noheader", f"--jobs={job}", "--format=%T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "invalid job id" not in done.stderr.lower():
        return None
    return done.stdout.strip()


def _beats(run: Path) -> bool:
    """Whether rank 0's heartbeat changes; the clocks of two machines need not agree."""
    heart = run / FOLDER / "rank-0.json"
    first = _text(heart)
    deadline = time.monotonic() + WATCH
    while first and time.monotonic() < deadline:
        if _text(heart) != first:
            return True
        time.sleep(0.2)
    return False


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _in_use(run: Path, owner: dict[str, Any]) -> InUse:
    job, process = owner.get("job"), owner.get("process", "of unknown number")
    who = f"{f'job {job}, ' if job else ''}process {process} on {owner.get('host', 'an unknown host')}"
    end = f"cancel it: scancel {job}" if job else "end it"
    return InUse(
        f"run directory {run} is in use",
        f"{who} has trained in it since {owner.get('since', 'some time')}, and two would write over each other",
        f"wait for it, or {end}; or name another folder with --run",
    )
