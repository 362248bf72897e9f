"""Carries runs on this machine: warm processes, side by side as the cores allow."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import hvd_adam
from hvd_adam.launchers import launcher
from hvd_adam.study.execute import Ended
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Run
from hvd_adam.study.worker import MARK

_LAST_WORDS = 2000  # characters of a dead worker's standard error that are kept
_GRACE = 3.0  # seconds that a worker gets to end by itself

Kind = tuple[int, str]  # ranks, and the engine that joins them; "" takes the default


class LocalExecutor:
    """Groups of ranks that make one run after the other; a context, at whose end all of them have ended.

    Args:
        cores: ranks that work at the same time.
    """

    def __init__(self, cores: int | None = None) -> None:
        self.cores = cores or len(os.sched_getaffinity(0))
        self._crews: list[_Crew] = []
        self._for: tuple[Kind, Path] | None = None

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()

    def carry(self, runs: Sequence[Run], folder: Folder) -> Iterator[Ended]:
        """See `Executor`. Runs on many ranks come first; workers stay for the next call, where it wants their kind."""
        for kind in sorted({_kind(run) for run in runs}, reverse=True):
            mine = [run for run in runs if _kind(run) == kind]
            yield from self._side_by_side(mine, self._called(kind, folder, len(mine)), folder)

    def dismiss(self) -> None:
        """Ends all workers, and waits for their end."""
        for crew in self._crews:
            crew.hang_up()
        for crew in self._crews:
            crew.see_off()
        self._crews = []

    def _called(self, kind: Kind, folder: Folder, most: int) -> list[_Crew]:
        """Crews for this kind of run. Others leave first: ranks that wait for orders spin on their cores."""
        if self._for != (kind, folder.path):
            self.dismiss()
            self._for = (kind, folder.path)
        for i in range(len(self._crews), min(most, max(1, self.cores // kind[0]))):
            self._crews.append(_Crew(kind, folder, folder.path / "workers" / f"{kind[0]}-{i}.log"))
        return self._crews

    @staticmethod
    def _side_by_side(runs: Sequence[Run], crews: Sequence[_Crew], folder: Folder) -> Iterator[Ended]:
        waiting: queue.SimpleQueue[Run] = queue.SimpleQueue()
        ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        for run in runs:
            waiting.put(run)
        for crew in crews:
            threading.Thread(target=crew.work, args=(waiting, ended), daemon=True).start()
        for _ in runs:
            yield ended.get()


def _kind(run: Run) -> Kind:
    return run.ranks, str(run.config.get("engine") or "")


class _Crew:
    """One warm job of some ranks; a new one is started where the last has died."""

    def __init__(self, kind: Kind, folder: Folder, errors: Path) -> None:
        self.kind, self.folder, self.errors = kind, folder, errors  # errors: where its standard error goes
        self._dismissed = False
        self._job: subprocess.Popen[bytes] | None = None
        self._door = threading.Lock()  # nobody is started once dismissed

    def work(self, waiting: queue.SimpleQueue[Run], ended: queue.SimpleQueue[Ended]) -> None:
        """Makes runs until none waits."""
        while not self._dismissed:
            try:
                run = waiting.get_nowait()
            except queue.Empty:
                return
            ended.put(self._make(run))

    def hang_up(self) -> None:
        """Ends the job's input, and with it the job, also in the middle of a run."""
        with self._door:
            self._dismissed = True
        if self._job is not None and self._job.stdin is not None:
            with suppress(OSError):  # it has died
                self._job.stdin.close()

    def see_off(self) -> None:
        """Waits for the job's end; one that does not listen, such as in the middle of importing torch, is ended."""
        job, self._job = self._job, None
        for end in (lambda: None, getattr(job, "terminate", None), getattr(job, "kill", None)):
            if job is None or end is None:
                return
            end()
            try:
                job.wait(_GRACE)
                return
            except subprocess.TimeoutExpired:
                continue

    def _make(self, run: Run) -> Ended:
        try:
            job = self._job or self._start()
            self._order(job, {"config": dict(run.config), "run": str(self.folder.of(run))})
            answer = self._answer(job)
        except (OSError, ValueError) as error:
            answer = {"failed": f"the worker cannot be reached: {error}", "code": 1}
            self._bury()
        if answer is None:
            self._bury()
            answer = {"failed": _last_words(self.errors), "code": 1}
        return Ended(run, answer.get("failed", ""), answer.get("code", 0), answer.get("seconds", 0.0))

    def _start(self) -> subprocess.Popen[bytes]:
        ranks, engine = self.kind
        command = [str(launcher("local" if ranks == 1 else "mpirun")), "-n", str(ranks), "--"]
        command += [sys.executable, "-m", "hvd_adam.study.worker", str(self.folder.path.resolve()), engine]
        held = self.folder.lock_number
        with self._door, self.errors.open("wb") as sink:
            if self._dismissed:
                raise OSError("the study ends")
            job = self._job = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=_environment(),
                pass_fds=() if held is None else (held,),  # the study stays locked while a worker of it lives
                start_new_session=True,  # Ctrl-C reaches the study alone, which then ends its workers
            )
        if self._answer(job) is None:
            raise OSError(_last_words(self.errors))
        return job

    def _bury(self) -> None:
        """Lets go of a job that has died, or that can no longer be spoken to."""
        if not self._dismissed:
            self.see_off()

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
        return None


def _environment() -> dict[str, str]:
    """One thread a rank, since runs lie side by side; a worker finds the package that this process runs."""
    home = str(Path(hvd_adam.__file__).resolve().parents[1])
    path = os.pathsep.join(part for part in (home, os.environ.get("PYTHONPATH", "")) if part)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OMPI_COMM_", "PMIX_"))}
    return {"OMP_NUM_THREADS": "1", **inherited, "PYTHONPATH": path}


def _last_words(errors: Path) -> str:
    """The last line that a worker wrote, and where the rest is; then the end of it."""
    try:
        text = errors.read_text(errors="replace").strip()
    except OSError:
        text = ""
    told = [line for line in text.splitlines() if line.strip() and not line.startswith(("+ ", "-----"))]
    return f"the worker died: {told[-1].strip() if told else 'it left no message'}\n{text[-_LAST_WORDS:]}".strip()
