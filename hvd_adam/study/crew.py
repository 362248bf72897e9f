"""A warm job of some ranks that makes runs here, all ranks each run, or each rank runs of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
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


class Crew:
    """One warm job; a new one is started where the last has died.

    Args:
        kind: of the job.
        folder: the study's.
        errors: where its standard error goes.
    """

    def __init__(self, kind: Kind, folder: Folder, errors: Path) -> None:
        self.kind, self.folder, self.errors = kind, folder, errors
        self.dismissed = False
        self.has_died = False  # while its ranks made runs apart
        self._job: subprocess.Popen[bytes] | None = None
        self._door = threading.Lock()  # nobody is started once dismissed

    @property
    def ranks_there(self) -> int:
        """How many ranks wait for orders."""
        return self.kind[0] if self._job is not None and self._job.poll() is None else 0

    def make(self, run: Run) -> Ended:
        """Makes one run on all its ranks."""
        try:
            job = self._job or self._start()
            self._say(job, self._order(run))
            answer = self._answer(job)
        except (OSError, ValueError) as error:
            answer = {"failed": f"the worker cannot be reached: {error}", "code": 1}
            self._bury()
        if answer is None:
            self._bury()
            answer = {"failed": _last_words(self.errors), "code": 1}
        return _ended(run, answer)

    def make_apart(self, runs: Sequence[Run], claims: Path) -> Iterator[Ended]:
        """Each rank makes runs by itself, one after the other, of those that nobody has claimed, until none is left.

        Where the job dies, what its ranks had begun has failed, and a new one goes on with the rest.

        Args:
            runs: the same, in the same order, for all crews that share them.
            claims: an empty folder, where ranks of any crew write down what they take.
        """
        while not self.dismissed:
            begun: set[int] = set()
            fresh, working = self._job is None, self.kind[0]
            try:
                job = self._job or self._start()
                self._say(job, {"apart": [self._order(run) for run in runs], "claims": str(claims)})
                while working and (answer := self._answer(job)) is not None:
                    if "begins" in answer:
                        begun.add(answer["begins"])
                    elif "ends" in answer:
                        begun.discard(answer["ends"])
                        yield _ended(runs[answer["ends"]], answer)
                    else:
                        working -= 1
                reason = _last_words(self.errors) if working else ""
            except (OSError, ValueError) as error:
                reason = f"the worker cannot be reached: {error}"
            if not reason:
                return
            self._bury()
            self.has_died = True
            for number in sorted(begun):
                yield Ended(runs[number], reason, 1)
            if fresh and not begun:  # nor would the next one come to anything
                return

    def hang_up(self) -> None:
        """Ends the job's input, and with it the job, also in the middle of a run."""
        with self._door:
            self.dismissed = True
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

    def _start(self) -> subprocess.Popen[bytes]:
        ranks, engine = self.kind
        command = [str(launcher("local" if ranks == 1 else "mpirun")), "-n", str(ranks), "--"]
        command += [sys.executable, "-m", "hvd_adam.study.worker", str(self.folder.path.resolve()), engine]
        held = self.folder.lock_number
        with self._door, self.errors.open("wb") as sink:
            if self.dismissed:
                raise OSError("the study ends")
            job = self._job = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=environment(os.environ, ranks),
                pass_fds=() if held is None else (held,),  # the study stays locked while a worker of it lives
                start_new_session=True,  # Ctrl-C reaches the study alone, which then ends its workers
            )
        if self._answer(job) is None:
            raise OSError(_last_words(self.errors))
        return job

    def _bury(self) -> None:
        """Lets go of a job that has died, or that can no longer be spoken to."""
        if not self.dismissed:
            self.see_off()

    def _order(self, run: Run) -> dict[str, Any]:
        return {"config": dict(run.config), "run": str(self.folder.of(run))}

    def _say(self, job: subprocess.Popen[bytes], order: dict[str, Any]) -> None:
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


def _ended(run: Run, answer: Mapping[str, Any]) -> Ended:
    return Ended(run, answer.get("failed", ""), answer.get("code", 0), answer.get("seconds", 0.0))


def environment(here: Mapping[str, str], ranks: int) -> dict[str, str]:
    """One thread a rank, since runs lie side by side; a worker finds the package that this process runs.

    Inside a Slurm job of fewer tasks than ranks mpirun would refuse them: it is not told, and they share this machine.
    """
    home = str(Path(hvd_adam.__file__).resolve().parents[1])
    path = os.pathsep.join(part for part in (home, here.get("PYTHONPATH", "")) if part)
    small = "SLURMD_NODENAME" in here and 0 < _tasks(here.get("SLURM_TASKS_PER_NODE", "")) < ranks
    gone = ("OMPI_COMM_", "PMIX_", *(("SLURM_", "PMI_") if small else ()))
    inherited = {key: value for key, value in here.items() if not key.startswith(gone)}
    return {"OMP_NUM_THREADS": "1", **inherited, "PYTHONPATH": path}


def _tasks(per_node: str) -> int:
    """Of all nodes, as Slurm writes them and mpirun reads them; 0 where nothing is said.

    >>> _tasks("2(x3),1")
    7
    """
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", per_node)
    return sum(int(tasks) * int(nodes or 1) for tasks, nodes in found)


def _last_words(errors: Path) -> str:
    """The last line that a worker wrote, and where the rest is; then the end of it."""
    try:
        text = errors.read_text(errors="replace").strip()
    except OSError:
        text = ""
    own = re.split(r"^-{20,}$", text, flags=re.MULTILINE)[::2]  # between such lines mpirun says what it makes of it
    told = [line for line in "".join(own).splitlines() if line.strip() and not line.startswith("+ ")]
    return f"the worker died: {told[-1].strip() if told else 'it left no message'}\n{text[-_LAST_WORDS:]}".strip()
