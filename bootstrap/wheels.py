"""A cache of compiled wheels, keyed by everything that they depend on.

pip's own cache knows a wheel by its name and version only, and hands back a Horovod that was compiled against
another torch. Here a wheel lies beside the facts that it was built from, and is taken only where all agree.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from bootstrap.errors import SetupError

Key = Mapping[str, object]


def folder() -> Path:
    """Return where wheels are kept: $HVD_ADAM_CACHE/wheels, or ~/.cache/hvd_adam/wheels (or below $XDG_CACHE_HOME).

    Raises:
        SetupError: nobody knows the home folder.
    """
    own = os.environ.get("HVD_ADAM_CACHE")
    base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "hvd_adam"
    try:
        return base.expanduser().absolute() / "wheels"
    except RuntimeError:
        raise SetupError(
            f"{base}: this system does not know the home folder of user {os.getuid()}",
            "the compiled Horovod is kept there",
            "export HVD_ADAM_CACHE=/DIR, then: make setup",
        ) from None


def digest(key: Key) -> str:
    """Return a short hash of a key; equal keys have equal ones, in whatever order they were written."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]


def place(cache: Path, name: str, key: Key) -> Path:
    """Return the folder of a wheel: a readable name, and the hash that decides."""
    return cache / f"{re.sub(r'[^A-Za-z0-9.+_-]', '_', name)}-{digest(key)}"


def find(cache: Path, name: str, key: Key) -> Path | None:
    """Return the cached wheel that was built from exactly this key and is whole, or None."""
    here = place(cache, name, key)
    try:
        kept = json.loads((here / "key.json").read_text(encoding="utf-8"))
        wheel = here / kept["wheel"]
        same = kept["key"] == json.loads(json.dumps(key)) and kept["sha256"] == _hash(wheel)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return wheel if same else None


def keep(cache: Path, name: str, key: Key, wheel: Path) -> Path:
    """Put a wheel into the cache in one move, and return its path there. A whole one that is there already stays."""
    here = place(cache, name, key)
    cache.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=cache))
    try:
        shutil.copy2(wheel, new / wheel.name)
        facts = {"wheel": wheel.name, "sha256": _hash(wheel), "key": key}
        (new / "key.json").write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")
        new.chmod(0o755)
        if find(cache, name, key) is None:
            shutil.rmtree(here, ignore_errors=True)
            new.rename(here)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return here / wheel.name


def forget(cache: Path, name: str, key: Key) -> None:
    """Take a wheel out of the cache."""
    shutil.rmtree(place(cache, name, key), ignore_errors=True)


@contextlib.contextmanager
def locked(file: Path, waiting: str = "", say=print) -> Iterator[None]:
    """Hold a file lock; where another process has it, say so once and wait. Ends with the process, even if killed.

    On a file system without locks it does nothing.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            say(f"{waiting} (process {handle.read().strip() or 'unknown'}): waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def _hash(wheel: Path) -> str:
    return hashlib.sha256(wheel.read_bytes()).hexdigest()
