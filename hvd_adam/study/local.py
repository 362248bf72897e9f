"""Carries runs on this machine: warm processes, side by side as the cores allow."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hvd_adam
from hvd_adam.launchers import launcher
from hvd_adam.study.execute import Ended
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Run
from hvd_adam.study.worker import MARK

_LAST_WORDS = 2000  # characters of a dead worker's standard error that are kept


class LocalExecutor:
    """Groups of ranks that make one run after the other.

    Args:
        cores: ranks that work at the same time.
    """

    def __init__(self, cores: int | None = None) -> None:
        self.cores = cores or len(os.sched_getaffinity(0))

    def carry(self, runs: Sequence[Run], folder: Folder) -> Iterator[Ended]:
        """See `Executor`. Runs on many ranks come first; all workers end with this generator."""
        for ranks in sorted({run.ranks for run in runs}, reverse=True):
            yield from self._side_by_side([run for run in runs if run.ranks == ranks], ranks, folder)

    def _side_by_side(self, runs: Sequence[Run], ranks: int, folder: Folder) -> Iterator[Ended]:
        waiting: queue.SimpleQueue[Run] = queue.SimpleQueue()
        for run in runs:
            waiting.put(run)
        ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        logs = folder.path / "workers"
        logs.mkdir(exist_ok=True)
        crews = [_Crew(ranks, logs / f"{ranks}-{i}.log") for i in range(min(len(runs), max(1, self.cores // ranks)))]
        for crew in crews:
            threading.Thread(target=crew.work, args=(waiting, ended, folder), daemon=True).start()
        try:
            for _ in runs:
                yield ended.get()
        finally:
            for crew in crews:
                crew.dismiss()


class _Crew:
    """One warm job of some ranks; a new one is started where the last has died."""

    def __init__(self, ranks: int, errors: Path) -> None:
        self.ranks, self.errors = ranks, errors  # errors: where its standard error goes
        self.dismissed = False
        self._job: subprocess.Popen[bytes] | None = None

    def work(self, waiting: queue.SimpleQueue[Run], ended: queue.SimpleQueue[Ended], folder: Folder) -> None:
        while not self.dismissed:
            try:
                run = waiting.get_nowait()
            except queue.Empty:
                self.dismiss()
                return
            ended.put(self._make(run, folder))

    def dismiss(self) -> None:
        """Ends the job: its input ends, and its ranks end with it."""
        self.dismissed = True
        job, self._job = self._job, None
        if job is not None and job.stdin is not None:
            job.stdin.close()

    def _make(self, run: Run, folder: Folder) -> Ended:
        path = folder.of(run)
        try:
            job = self._job or self._start()
            self._order(job, {"config": dict(run.config), "run": str(path)})
            answer = self._answer(job)
        except (OSError, ValueError) as error:
            answer = {"failed": f"the worker cannot be reached: {error}", "code": 1}
        if answer is None:
            self._job = None
            answer = {"failed": _last_words(self.errors), "code": 1}
        return Ended(run, answer.get("failed", ""), answer.get("code", 0), answer.get("seconds", 0.0))

    def _start(self) -> subprocess.Popen[bytes]:
        name = "local" if self.ranks == 1 else "mpirun"
        command = [str(launcher(name)), "-n", str(self.ranks), "--", sys.executable, "-m", "hvd_adam.study.worker"]
        with self.errors.open("wb") as sink:
            job = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=_environment(),
                start_new_session=True,  # Ctrl-C reaches the study alone, which then ends its workers
            )
        self._job = job
        if self._answer(job) is None:
            raise OSError(_last_words(self.errors))
        return job

    def _order(self, job: subprocess.Popen[bytes], order: dict[str, Any]) -> None:
        assert job.stdin is not None
        job.stdin.write(json.dumps(order).encode() + b"\n")
        job.stdin.flush()

    def _answer(self, job: subprocess.Popen[bytes]) -> dict[str, Any] | None:
        """The next answer; None where the job has ended without one. What else it prints is left aside."""
        assert job.stdout is not None
        for line in job.stdout:
            text = line.decode(errors="replace")
            if MARK in text:
                return json.loads(text.partition(MARK)[2])
        job.wait()
        return None


def _environment() -> dict[str, str]:
    """One thread a rank, since runs lie side by side; a worker finds the package that this process runs."""
    home = str(Path(hvd_adam.__file__).resolve().parents[1])
    path = os.pathsep.join(part for part in (home, os.environ.get("PYTHONPATH", "")) if part)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OMPI_COMM_", "PMIX_"))}
    return {"OMP_NUM_THREADS": "1", **inherited, "PYTHONPATH": path}


def _last_words(errors: Path) -> str:
    try:
        text = errors.read_text(errors="replace").strip()
    except OSError:
        text = ""
    return f"the worker died: {text[-_LAST_WORDS:] or 'it left no message'}"
