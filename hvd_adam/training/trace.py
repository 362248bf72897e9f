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
import threading
from pathlib import Path
from typing import Any

from hvd_adam.errors import RunError
from hvd_adam.files import write_whole
from hvd_adam.terminal import complain
from hvd_adam.training.rundir import plain, written

SCHEMA = 1
KEPT_BYTES = 1 << 26  # of lines that a full disk does not take


class Trace:
    """Writes lines whole: what is on disk can be read at any moment. `path` None writes nothing.

    A full disk does not end the training: lines are kept in memory, and written once there is room.

    Args:
        facts: what the first line says beside the schema's version; a file that has lines keeps its own.
    """

    def __init__(self, path: Path | None, **facts: Any) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666) if path else None
        self._left = b""  # what the disk has not taken yet
        self._writing = threading.Lock()  # a checkpoint's thread asks what is left
        self._complained = False
        if self._file is not None and os.fstat(self._file).st_size == 0:
            self.write("start", schema=SCHEMA, **facts)

    def write(self, kind: str, **values: Any) -> None:
        """Appends one line, by one system call where the disk takes it.

        Raises:
            RunError: more lines are kept than memory is for; or the run directory was removed.
        """
        if self._file is None:
            return
        if self._is_gone(look=kind != "step"):
            self._left, path = b"", self._path
            assert path is not None
            raise RunError(
                f"run directory {path.parent} was removed while it was trained in",
                "what is written there goes nowhere any more, and what there was is gone",
                "start the run again; to stop one, end its job",
            )
        line = (json.dumps({"kind": kind, **plain(values)}, allow_nan=False) + "\n").encode()
        with self._writing:
            self._left += line
            why = self._flush()
        if why and not self._complained:
            self._complained = True
            complain(f"{self._refusal(why)}\n  Training goes on, and keeps the lines in memory.")
        if len(self._left) > KEPT_BYTES:
            raise self._refusal(why)

    def sync(self) -> None:
        """Returns when all lines are on the disk.

        Raises:
            RunError: they cannot be.
        """
        if self._file is not None:
            try:
                os.fsync(self._file)
            except OSError as error:
                raise self._refusal(error.strerror or str(error)) from error
        with self._writing:
            left = len(self._left)
        if left:
            raise self._refusal("lines of it are still in memory")

    def close(self) -> None:
        """Ends the file; later lines go nowhere.

        Raises:
            RunError: lines are left that the disk does not take.
        """
        if self._file is not None:
            why = self._flush() if self._left else ""
            os.close(self._file)
            self._file = None
            if why:
                raise self._refusal(why)

    def _is_gone(self, look: bool) -> bool:
        """Whether nobody can find the file any more. NFS keeps the name of an open one: `look` for it by its path."""
        assert self._file is not None and self._path is not None
        return os.fstat(self._file).st_nlink == 0 or (look and not self._path.exists())

    def _flush(self) -> str:
        """Writes what is left; why that was not all."""
        assert self._file is not None
        try:
            self._left = self._left[os.write(self._file, self._left) :]
        except OSError as error:
            return error.strerror or str(error)
        if self._left:
            return "the disk is full"
        self._complained = False
        return ""

    def _refusal(self, why: str) -> RunError:
        return RunError(f"trace {self._path}", f"it cannot be written: {why}", "free the disk")


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a trace; a last line cut short is left out."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def cut_back(path: Path, step: int, evaluated: bool = True) -> int:
    """Removes what lies after `step`, so that a resumed run writes no step twice; returns the lines kept.

    At step 0 nothing is kept: the run starts afresh. Without `evaluated` this step's evaluation is removed too.

    Raises:
        RunError: a line that is to be kept is none of a trace, or the file cannot be read or written.
    """

    def stays(line: dict[str, Any]) -> bool:
        at = line.get("step", 0)
        return line["kind"] != "end" and (at < step or (at == step and (evaluated or line["kind"] != "eval")))

    try:
        kept = [line for line in read(path) if stays(line)] if step else []
    except FileNotFoundError:
        return 0
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(
            f"trace {path}: a line of it is damaged",
            f"the resumed run keeps the lines up to step {step}, and cannot read them ({error!r})",
            "put a whole copy there, or move the file away: the trace then begins with the next step",
        ) from error
    with written(path):
        if path.exists():
            write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))
    return len(kept)
