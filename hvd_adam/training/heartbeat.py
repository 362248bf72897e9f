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
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

FOLDER = "heartbeats"
INTERVAL = 5.0  # seconds between two writes
OVER = ("done", "stopped", "failed", "interrupted")  # last phases
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
        self._since = self._moved = time.monotonic()
        self._silent = (0.0, 0)  # seconds for which this process stood still, and in which step
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
        self._moved = self._since

    def alive(self) -> None:
        """It gets on: the watchdog begins to count anew (every few seconds at most, since that starts a thread)."""
        now = self._moved = time.monotonic()
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
            before = time.monotonic()
            self._ended.wait(self.interval)
            stood = time.monotonic() - before
            if stood > silent_after(self.interval):  # all threads did: the process was stopped, or got no core
                self._silent = stood, self.step

    def _write(self) -> None:
        now = time.monotonic()
        content: dict[str, Any] = {
            **self.facts,
            "step": self.step,
            "phase": self.phase,
            "phase_seconds": round(now - self._since, 3),
            "quiet_seconds": round(now - self._moved, 3),
            "silent_seconds": round(self._silent[0], 3) if self._silent[1] == self.step else 0.0,
            "interval": self.interval,
            "stall_limit": self.limit,
            "time": time.time(),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }
        fresh = self._path.with_suffix(f".{os.getpid()}.new")
        with contextlib.suppress(OSError):  # a full disk stops no training
            fresh.write_text(json.dumps(content) + "\n")
            fresh.replace(self._path)


def silent_after(interval: float) -> float:
    """Seconds without a beat from which on a rank is called silent."""
    return 3 * interval + 1


def look(run: Path) -> tuple[list[dict[str, Any]], float]:
    """The last words of all ranks, and now by the folder's clock.

    Some file systems keep the time of the machine that wrote, whose clock may be off. So a rank that seems to have been
    silent, or to speak from the future, is watched for as long as a beat takes: one whose file changes was heard just
    now, and one whose does not is "silent". "ahead": seconds by which the clock of its host is ahead of the folder's.
    """
    beats, now = read(run), _clock(run)
    for beat in beats:
        beat["ahead"] = beat["time"] - beat["heard"]
    doubted = [beat for beat in beats if _is_doubtful(beat, now)]
    if not doubted:
        return beats, now
    watched = {beat["rank"]: beat for beat in doubted}
    deadline = time.monotonic() + 1.2 * max(beat["interval"] for beat in doubted) + 0.5
    while watched and time.monotonic() < deadline:
        time.sleep(0.1)
        for beat in read(run):
            before = watched.get(beat["rank"])
            if before is not None and beat["time"] != before["time"]:
                before.update(beat, ahead=beat["heard"] - _clock(run), heard=None)
                del watched[beat["rank"]]
    now = _clock(run)
    for beat in doubted:
        beat["silent"] = beat["rank"] in watched
        beat["heard"] = now if beat["heard"] is None else min(beat["heard"], now)
    return beats, now


def _is_doubtful(beat: dict[str, Any], now: float) -> bool:
    return beat["phase"] not in OVER and not -2 < now - beat["heard"] < silent_after(beat["interval"])


def _clock(run: Path) -> float:
    """The folder's, which may not be this machine's; where nothing can be written, this one's all the same."""
    try:
        with tempfile.NamedTemporaryFile(dir=run) as here:
            return Path(here.name).stat().st_mtime
    except OSError:
        return time.time()


def read(run: Path) -> list[dict[str, Any]]:
    """The last words of all ranks, by rank, each with "heard": when its file was written, by the folder's own clock."""
    found = []
    for path in (run / FOLDER).glob("rank-*.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append({**json.loads(path.read_text()), "heard": path.stat().st_mtime})
    return sorted(found, key=lambda one: one["rank"])
