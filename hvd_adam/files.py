"""Files: is one there, and small ones, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def there(path: Path) -> bool:
    """Whether something is at this path. What may not be looked at counts, so that whoever reads it next says why."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


def write_whole(path: Path, text: str) -> None:
    """Writes beside, syncs, renames: a reader finds the old text or the new one.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()  # the room that it takes is missing elsewhere
        raise
