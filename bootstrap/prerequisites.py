"""What has to be on the machine before the set-up, and the package to ask for where it is missing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bootstrap.errors import SetupError

OLDEST_GXX = 11  # torch's headers are C++20 since 2.14


@dataclass(frozen=True)
class Prerequisite:
    """One thing that is needed: what, the Debian package that brings it, and how to see that it is there."""

    what: str
    package: str
    is_there: Callable[[], bool]


def compiler() -> str:
    """Return the C++ compiler that will be used: $CXX, or g++."""
    return os.environ.get("CXX") or "g++"


def compiler_version() -> str:
    """Return what the compiler says of its version, such as 12.2.0; empty where there is none."""
    try:
        command = [*compiler().split(), "-dumpfullversion", "-dumpversion"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _venv_is_there() -> bool:
    return all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))


def _headers_are_there() -> bool:
    return Path(sysconfig.get_paths()["include"], "Python.h").is_file()


def prerequisites() -> list[Prerequisite]:
    """List what is needed, in the order in which it is reported."""
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return [
        Prerequisite("git", "git", lambda: shutil.which("git") is not None),
        Prerequisite("make", "make", lambda: shutil.which("make") is not None),
        Prerequisite(f"{python}'s venv module", f"{python}-venv", _venv_is_there),
        Prerequisite(f"{python}'s headers (Python.h)", f"{python}-dev", _headers_are_there),
        Prerequisite(f"a C++ compiler ({compiler()})", "g++", lambda: bool(compiler_version())),
    ]


def check(wanted: list[Prerequisite] | None = None) -> None:
    """Raise SetupError naming every package that is missing, one a line.

    A module-loaded or conda Python has venv and headers of its own; then nothing is asked for.
    """
    missing = [one for one in (prerequisites() if wanted is None else wanted) if not one.is_there()]
    if missing:
        raise SetupError(
            found="missing on this machine: " + ", ".join(one.what for one in missing),
            why="the set-up needs them and cannot install them without root",
            cure="Ask for these packages (Debian's and Ubuntu's names), then: make setup",
            lines=[f"apt install {one.package}" for one in missing],
        )
    version = compiler_version()
    major = re.match(r"\d+", version)
    if major and "clang" not in compiler() and int(major.group()) < OLDEST_GXX:
        raise SetupError(
            found=f"{compiler()} is version {version}",
            why=f"torch's headers need C++20, which g++ knows from version {OLDEST_GXX} on",
            cure=f"Load or install a newer one (apt: g++-{OLDEST_GXX}), and name it: CXX=g++-{OLDEST_GXX} make setup",
        )


def check_space(folder: Path, needed_gb: float) -> None:
    """Raise SetupError where a folder's disk has less room than the set-up takes."""
    free = shutil.disk_usage(folder).free / 1e9
    if free < needed_gb:
        raise SetupError(
            found=f"{free:.1f} GB are free where .venv will lie",
            why=f"torch and what it brings take about {needed_gb:g} GB while they are installed",
            cure="Free some, or take the small CPU build of torch from an index that has it:"
            " make setup TORCH_INDEX=...",
        )
