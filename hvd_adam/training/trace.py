"""The trace: append-only JSONL written by rank 0, one object a line; the truth that all analysis reads.

    {"kind": "start", "schema": 1, ...}   facts of the first launch; later ones are in environment.json
    {"kind": "step", "step": t, "samples": total so far, "seconds": {...}, "loss": ..., ...}
    {"kind": "eval", "step": t, "loss": ..., "accuracy": ...}
    {"kind": "end", "step": t, "status": "done" | "stopped" | "failed" | "interrupted"}

Numbers that are not finite are written as the strings "nan", "inf" and "-inf": each line is valid JSON.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hvd_adam.errors import RunError
from hvd_adam.training.rundir import plain

SCHEMA = 1


class Trace:
    """Writes lines whole: what is on disk can be read at any moment. `path` None writes nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666) if path else None

    def write(self, kind: str, **values: Any) -> None:
        """Appends one line, by one system call.

        Raises:
            RunError: the disk is full, or the folder is gone.
        """
        if self._file is None:
            return
        line = (json.dumps({"kind": kind, **plain(values)}, allow_nan=False) + "\n").encode()
        try:
            written = os.write(self._file, line)
        except OSError as error:
            raise RunError(f"trace {self._path}", f"it cannot be written: {error.strerror}", "free the disk") from error
        if written < len(line):
            raise RunError(f"trace {self._path}", "the disk is full", "free it, and add --resume")

    def close(self) -> None:
        """Ends the file; later lines go nowhere."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a trace; a last line cut short is left out."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def cut_back(path: Path, step: int, evaluated: bool = True) -> int:
    """Removes what lies after `step`, so that a resumed run writes no step twice; returns the lines kept.

    At step 0 nothing is kept: the run starts afresh. Without `evaluated` this step's evaluation is removed too.
    """
    if not path.exists():
        return 0

    def stays(line: dict[str, Any]) -> bool:
        at = line.get("step", 0)
        return line["kind"] != "end" and (at < step or (at == step and (evaluated or line["kind"] != "eval")))

    kept = [line for line in read(path) if stays(line)] if step else []
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fresh.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    fresh.replace(path)
    return len(kept)
