"""Which MPI each part is linked with, and which programs start ranks."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from hvd_adam.doctor.elf import Dynamic, find_library, read_dynamic
from hvd_adam.doctor.environment import Library, Mpi, Program
from hvd_adam.doctor.facts.places import Places
from hvd_adam.doctor.facts.software import distribution, horovod_extension
from hvd_adam.doctor.probes import Answer

_LIBMPI = re.compile(r"libmpi(ch|_cray|_gnu_\d+|_intel)?\.so[.\d]*$")

# mpi4py may be a wheel that looks for a libmpi when it is imported: only an import tells which. MPI stays closed.
_ASK_MPI4PY = """
import json, mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
maps = sorted({line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/libmpi" in line})
print("\\n" + json.dumps({"version": MPI.Get_library_version(), "maps": maps}))
"""
_ASK_LIBRARY = """
import ctypes, json, sys
text, length = ctypes.create_string_buffer(9000), ctypes.c_int()
ctypes.CDLL(sys.argv[1]).MPI_Get_library_version(text, ctypes.byref(length))
print("\\n" + json.dumps({"version": text.value.decode()}))
"""

# First words of a version text -> how we call it. Libraries and mpirun share the table.
_VERSIONS = (
    (r"Open MPI v(\d[\w.]*)", "Open MPI"),
    (r"\(Open MPI\) (\d[\w.]*)", "Open MPI"),
    (r"Spectrum MPI\D*(\d[\w.]*)", "Spectrum MPI"),
    (r"Intel\(R\) MPI Library(?:.*Version)? (\d[\w.]*)", "Intel MPI"),
    (r"CRAY MPICH version (\d[\w.]*)", "Cray MPICH"),
    (r"MVAPICH\d?[^\d\n]*Version\s*:\s*(\d[\w.]*)", "MVAPICH"),
    (r"MPICH Version:\s*(\d[\w.]*)", "MPICH"),
    (r"HYDRA build details:\s*Version:\s*(\d[\w.]*)", "Hydra"),
)


def mpi_name(text: str) -> str | None:
    """ "Open MPI 4.1.8" from what a library or an mpirun prints of itself; None where it is not known."""
    for pattern, name in _VERSIONS:
        if found := re.search(pattern, text):
            return f"{name} {found[1]}"
    return None


def questions(places: Places) -> dict[str, list[str]]:
    """The programs to ask, by name."""
    asked = {}
    if mpirun := shutil.which("mpirun", path=places.launcher_path()):
        asked["mpirun"] = [mpirun, "--version"]
    if distribution(places, "mpi4py"):
        asked["mpi4py"] = [sys.executable, "-c", _ASK_MPI4PY]
    _, library = _horovod(places)
    if library and library.path:
        asked["libmpi"] = [sys.executable, "-S", "-c", _ASK_LIBRARY, library.path]
    return asked


def mpi(places: Places, answers: Mapping[str, Answer]) -> Mpi:
    """The facts, from the files and from the answers to `questions`."""
    dynamic, library = _horovod(places)
    if library and library.path:
        answer = answers.get("libmpi")
        name = mpi_name(_said(answer).get("version", ""))
        library = Library(library.soname, library.path, name, _trouble(answer))
    mpirun = shutil.which("mpirun", path=places.launcher_path())
    ours, trouble = _mpi4py(answers.get("mpi4py"))
    return Mpi(
        horovod=library,
        horovod_nccl=dynamic is not None and b"ncclAllReduce" in dynamic.names,
        mpi4py=ours,
        mpi4py_trouble=trouble,
        mpirun=Program(_real(mpirun), mpi_name(_text(answers.get("mpirun")))) if mpirun else None,
        mpirun_by_hand=_real(shutil.which("mpirun", path=places.environ.get("PATH", ""))),
        horovodrun=shutil.which("horovodrun", path=places.launcher_path()),
    )


def _horovod(places: Places) -> tuple[Dynamic | None, Library | None]:
    extension = horovod_extension(places)
    if extension is None:
        return None, None
    try:
        dynamic = read_dynamic(extension)
        name = next((name for name in dynamic.needed if _LIBMPI.fullmatch(name)), None)
        if name is None:
            return dynamic, None
        path = find_library(name, extension, places.environ, _cached_folders(places))
    except (OSError, ValueError):
        return None, None
    return dynamic, Library(name, str(path) if path else None, None)


def _cached_folders(places: Places) -> list[str]:
    """Folders that the system's loader is told to look in."""
    folders = []
    for file in sorted((places.root / "etc/ld.so.conf.d").glob("*.conf")):
        lines = (places.read(str(file.relative_to(places.root))) or "").splitlines()
        folders += [line.strip() for line in lines if line.strip().startswith("/")]
    return folders


def _mpi4py(answer: Answer | None) -> tuple[Library | None, str | None]:
    if answer is None:
        return None, None
    trouble = _trouble(answer)
    if trouble:
        return None, trouble
    said = _said(answer)
    path = next((path for path in said["maps"] if _LIBMPI.fullmatch(Path(path).name)), None)
    return Library(Path(path).name if path else "", path, mpi_name(said["version"])), None


def _trouble(answer: Answer | None) -> str | None:
    """The last line of an answer that is none."""
    if answer is None or _said(answer):
        return None
    lines = answer.text.strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def _said(answer: Answer | None) -> dict:
    """The JSON of an answer's last line; empty where there is none."""
    try:
        return json.loads(answer.text.strip().splitlines()[-1]) if answer and answer.code == 0 else {}
    except (ValueError, IndexError):
        return {}


def _text(answer: Answer | None) -> str:
    return answer.text if answer else ""


def _real(path: str | None) -> str:
    return str(Path(path).resolve()) if path else ""
