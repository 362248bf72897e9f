"""Where each rank stands, in a small file of its own; and the watchdog that ends a rank that stands still.

    RUN/heartbeats/rank-3.json    {"rank": 3, "host": "n2", "step": 41, "phase": "backward", "phase_seconds": 2.1, ...}

One writer a file, renamed into place: safe on NFS and Lustre. A thread writes it every few seconds, so that a step pays
for two assignments. `hvd-adam diagnose` reads them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

FOLDER = "heartbeats"
INTERVAL = 5.0  # seconds between two writes
_STDERR = 2  # a pipe to this machine's launcher: it takes the stacks where a network folder would not


class Heartbeat:
    """A rank's pulse.

    Args:
        stall_limit: seconds without a new step, or a new round of an evaluation, until all stacks are written to
            standard error and the process ends with 1; None never does. A thread of C does it, which needs neither
            the interpreter's lock nor the network: the main thread may hang in a collective.
    """

    def __init__(self, run: Path, rank: int, host: str, stall_limit: float | None) -> None:
        self.limit, self.phase, self.step = stall_limit, "starting", 0
        self.facts = {"rank": rank, "host": host, "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")}
        self.interval = INTERVAL if stall_limit is None else min(INTERVAL, stall_limit / 4)
        self.seconds: dict[str, float] = {}
        self._path = run / FOLDER / f"rank-{rank}.json"
        self._since = time.monotonic()
        self._armed = -1e9
        self._ended = threading.Event()
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
        self._write()
        self.alive()
        self._thread = threading.Thread(target=self._write_on, name="heartbeat", daemon=True)
        self._thread.start()

    def at(self, phase: str) -> None:
        """This rank enters a phase."""
        self.phase, self._since = phase, time.monotonic()

    def alive(self) -> None:
        """It gets on: the watchdog begins to count anew (every few seconds at most, since that starts a thread)."""
        now = time.monotonic()
        if self.limit is not None and now - self._armed > min(INTERVAL, self.limit / 10):
            self._armed = now
            faulthandler.dump_traceback_later(self.limit, exit=True, file=_STDERR)

    def stop(self, phase: str) -> None:
        """The rank ends well: no watchdog any more, and a last word in the file."""
        if self.limit is not None:
            faulthandler.cancel_dump_traceback_later()
        self.at(phase)
        self._ended.set()
        self._thread.join()

    def _write_on(self) -> None:
        while True:
            ends = self._ended.is_set()
            self._write()
            if ends:
                return
            self._ended.wait(self.interval)

    def _write(self) -> None:
        content: dict[str, Any] = {
            **self.facts,
            "step": self.step,
            "phase": self.phase,
            "phase_seconds": round(time.monotonic() - self._since, 3),
            "interval": self.interval,
            "stall_limit": self.limit,
            "time": time.time(),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }
        fresh = self._path.with_suffix(f".{os.getpid()}.new")
        with contextlib.suppress(OSError):  # a full disk stops no training
            fresh.write_text(json.dumps(content) + "\n")
            fresh.replace(self._path)


def read(run: Path) -> list[dict[str, Any]]:
    """The last words of all ranks, by rank, each with "heard": when its file was written, by the folder's own clock."""
    found = []
    for path in (run / FOLDER).glob("rank-*.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append({**json.loads(path.read_text()), "heard": path.stat().st_mtime})
    return sorted(found, key=lambda one: one["rank"])
