"""Checkpoints: written beside, synced, renamed, checksummed; two are kept.

A file is a SHA-256 and then torch's bytes. It holds everything by parameter name, so that it knows
nothing of buckets or ranks, and the config that it belongs to. Who writes when: checkpoint_writer.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from hvd_adam.comm.protocol import World
from hvd_adam.config import RunConfig, identity
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.optim.agreement import agree, from_root
from hvd_adam.terminal import complain
from hvd_adam.training.rundir import refuse_foreign

SCHEMA = 1
KEPT = 2
PATIENCE = 60.0  # seconds that a shared folder may be late
_DIGEST = 32


def save(folder: Path, step: int, config: RunConfig, content: dict[str, Any]) -> Path:
    """Writes `content` as the checkpoint of `step`.

    Raises:
        RunError: the folder cannot be written.
    """
    stream = io.BytesIO()
    torch.save({"schema": SCHEMA, "step": step, "config": json.dumps(identity(config)), **content}, stream)
    body = stream.getvalue()
    path = folder / f"step-{step:09d}.ckpt"
    fresh = path.with_suffix(f".{os.getpid()}.new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(hashlib.sha256(body).digest() + body)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync_names(folder)
        for old in sorted(folder.glob("step-*.ckpt"))[:-KEPT]:
            old.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()  # the room that it takes is missing elsewhere
        raise RunError(
            f"checkpoint {path}", f"it cannot be written: {error.strerror}", "free or open the folder"
        ) from error
    return path


def _sync_names(folder: Path) -> None:
    """The new name is on the disk before the old file goes; a file system that knows no such call has its own order."""
    with contextlib.suppress(OSError):
        names = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(names)
        finally:
            os.close(names)


def load_newest(world: World, folder: Path, config: RunConfig) -> dict[str, Any] | None:
    """The newest checkpoint that is whole; None where there is none. A damaged one is said, set aside and passed over.

    Rank 0 chooses; the others read the same file, and wait for it where their view of a shared folder is late.

    Raises:
        ConfigError: it belongs to another config; the keys that differ are named.
        RunError: the folder cannot be read, none in it can be used, or a rank does not see the file.
    """
    content: dict[str, Any] | None = None

    def choose() -> tuple[str, str]:
        nonlocal content
        content, chosen = _newest(folder)
        return chosen

    name, digest = from_root(world, choose)
    if world.rank and name:
        content = _wait_for(folder / name, digest)
    agree(world, {"the newest checkpoint": content["step"] if content else 0})
    if content is None:
        return None
    if content.get("schema") != SCHEMA:
        raise ConfigError(
            f"checkpoint in {folder}, schema {content.get('schema')}",
            f"this version reads schema {SCHEMA}",
            "resume with the version that wrote it, or start a new run",
        )
    refuse_foreign(json.loads(content["config"]), config, f"checkpoint in {folder}")
    return content


def _newest(folder: Path) -> tuple[dict[str, Any] | None, tuple[str, str]]:
    """The content, and the file's name and checksum. Where none can be used, all files stay as they are."""
    damaged: dict[Path, str] = {}
    for path in _written(folder):
        content, why = _read(path)
        if content is None:
            damaged[path] = why
            continue
        for odd, fault in damaged.items():
            complain(f"{odd} is damaged ({fault}); the one before it is used.")
            with contextlib.suppress(OSError):  # out of the way of the two that are kept, but there to be looked at
                odd.replace(odd.with_suffix(".damaged"))
        return content, (path.name, why)
    if damaged:
        raise RunError(
            f"checkpoints in {folder}: {', '.join(f'{path.name} ({why})' for path, why in damaged.items())}",
            "none of them can be used, and without one the run would start at step 0 and remove its trace",
            "put a whole copy there, or start a new run with another --run",
        )
    return None, ("", "")


def _written(folder: Path) -> list[Path]:
    """The checkpoints there, newest first; glob would take a folder that cannot be read for an empty one."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(
            f"checkpoints in {folder}",
            f"the folder cannot be read ({error.strerror}), and without them the run would start at step 0",
            "open the folder, or start a new run with another --run",
        ) from error
    return [folder / name for name in sorted(names, reverse=True) if fnmatch(name, "step-*.ckpt")]


def _read(path: Path, digest: str | None = None) -> tuple[dict[str, Any] | None, str]:
    """The content and its checksum; or None, and what is wrong with the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return None, error.strerror or str(error)
    found = hashlib.sha256(data[_DIGEST:])
    if found.digest() != data[:_DIGEST] or digest not in (None, found.hexdigest()):
        return None, "checksum"
    try:
        return torch.load(io.BytesIO(data[_DIGEST:]), weights_only=True, map_location="cpu"), found.hexdigest()
    except Exception as error:  # the bytes are those that were written, so it is another torch that wrote them
        return None, f"torch {torch.__version__} cannot read it: {error}"


def _wait_for(path: Path, digest: str) -> dict[str, Any] | None:
    deadline = time.monotonic() + PATIENCE
    while True:
        content, _ = _read(path, digest)
        if content is not None or time.monotonic() > deadline:
            return content
        time.sleep(0.5)
