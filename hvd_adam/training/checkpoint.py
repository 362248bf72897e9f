"""Checkpoints: written beside, synced, renamed, checksummed; two are kept.

A file is a SHA-256 and then torch's bytes. It holds everything by parameter name, so that it knows
nothing of buckets or ranks, and the config that it belongs to.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from hvd_adam.comm.protocol import World
from hvd_adam.config import RunConfig, identity
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.optim.agreement import agree
from hvd_adam.training.rundir import refuse_foreign

SCHEMA = 1
KEPT = 2
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
        for old in sorted(folder.glob("step-*.ckpt"))[:-KEPT]:
            old.unlink()
    except OSError as error:
        raise RunError(
            f"checkpoint {path}", f"it cannot be written: {error.strerror}", "free or open the folder"
        ) from error
    return path


def load_newest(world: World, folder: Path, config: RunConfig) -> dict[str, Any] | None:
    """The newest checkpoint that is whole; None where there is none. A damaged one is said and passed over.

    Raises:
        ConfigError: it belongs to another config; the keys that differ are named.
        RunError: ranks see different files.
    """
    content = _newest(folder, speak=world.rank == 0)
    agree(world, {"the step of the newest checkpoint": content["step"] if content else 0})
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


def _newest(folder: Path, speak: bool) -> dict[str, Any] | None:
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        data = path.read_bytes()
        if hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
            return torch.load(io.BytesIO(data[_DIGEST:]), weights_only=True, map_location="cpu")
        if speak:
            sys.stderr.write(f"hvd-adam: {path} is damaged (checksum); the one before it is used.\n")
    return None
