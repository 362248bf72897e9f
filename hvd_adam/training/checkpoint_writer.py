"""Writes checkpoints beside training: the step pays for a copy, a thread makes a file of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Callable

import torch

from hvd_adam.config import RunConfig
from hvd_adam.errors import RunError
from hvd_adam.terminal import complain
from hvd_adam.training import checkpoint

TRIES, PAUSE = 3, 2.0  # of the last one of a run that stops: how often, and seconds between


class CheckpointWriter:
    """Takes copies, and writes one at a time; for rank 0.

    A full disk does not end the training: it is said, older checkpoints stay, and the next that is due is
    tried as if nothing had been.

    Args:
        before: called ahead of each write, in its thread: makes sure that what the checkpoint counts on is on disk.
    """

    def __init__(self, folder: Path, config: RunConfig, before: Callable[[], None] = lambda: None) -> None:
        self.folder, self.config, self.before = folder, config, before
        self._thread: threading.Thread | None = None
        for left in folder.glob("step-*.new"):  # by a process that was killed while it wrote
            left.unlink(missing_ok=True)

    def save(self, step: int, content: dict[str, Any]) -> float:
        """Copies the content and goes on; the seconds that this took, waiting for the write before it included."""
        started = time.perf_counter()
        self.finish()
        copied = _copy(content)
        self._thread = threading.Thread(target=self._write, args=(step, copied), name="checkpoint")
        self._thread.start()
        return time.perf_counter() - started

    def save_now(self, step: int, content: dict[str, Any]) -> bool:
        """Writes before it returns, since the process is to end; whether it could."""
        self.finish()
        for attempt in range(TRIES):
            time.sleep(PAUSE if attempt else 0)
            if self._write(step, content):
                return True
        return False

    def finish(self) -> None:
        """Returns when nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, step: int, content: dict[str, Any]) -> bool:
        try:
            self.before()
            checkpoint.save(self.folder, step, self.config, content)
        except RunError as error:
            complain(f"{error}\n  Training goes on; older checkpoints stay.")
            return False
        return True


def _copy(value: Any) -> Any:
    """The same structure, in memory that training does not touch."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}
    return type(value)(_copy(inner) for inner in value) if isinstance(value, (list, tuple)) else value
