"""The folders that a run needs: tried by writing, since permissions do not tell of quotas and read-only mounts."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from hvd_adam.data import below_home, data_root, names, present
from hvd_adam.doctor.environment import Folder, Storage
from hvd_adam.doctor.facts.places import Places
from hvd_adam.files import there


def storage(places: Places) -> Storage:
    """Runs, data, temporary files, shared memory, and the software's own folder."""
    runs = places.folder / "runs"
    named = places.environ.get("HVD_ADAM_DATA")
    root = below_home(named) if named else data_root()
    return Storage(
        runs=folder(runs if there(runs) else places.folder, places),
        data=folder(_existing(root), places),
        temporary=folder(Path(places.environ.get("TMPDIR") or "/tmp"), places),
        shared_memory=folder(places.root / "dev/shm", places),
        software=str(places.prefix),
        software_kind=_kind(places.prefix, places),
        sets={name: present(name, root) for name in names()},
    )


def folder(path: Path, places: Places) -> Folder:
    """Writes one byte into a file that has no name afterwards."""
    kind = _kind(path, places)
    try:
        with tempfile.NamedTemporaryFile(dir=path, prefix=".hvd_adam-doctor-") as file:
            before = time.time()
            file.write(b"x")
            file.flush()
            written, after = os.fstat(file.fileno()).st_mtime, time.time()
        space = os.statvfs(path)
    except OSError as error:
        return Folder(str(path), trouble=error.strerror or str(error), kind=kind)
    ahead = written - after if written > after else min(0.0, written - before)
    size = space.f_blocks * space.f_frsize
    return Folder(str(path), None, space.f_bavail * space.f_frsize, size, kind, ahead)


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    return next((place for place in (path, *path.parents) if there(place)), path)


def _kind(path: Path, places: Places) -> str:
    """The file system's kind: that of the longest mount point above the path."""
    rows = [line.split() for line in (places.read("/proc/mounts") or "").splitlines()]
    points = [(row[1].replace("\\040", " "), row[2]) for row in rows if len(row) > 2]
    above = {str(place) for place in (path.resolve(), *path.resolve().parents)}
    return max((point for point in points if point[0] in above), key=lambda point: len(point[0]), default=("", ""))[1]
