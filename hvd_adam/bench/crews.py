"""Jobs that take turns: each peer is a job of its own, and those that are not timed stand still.

A job that waits is stopped (SIGSTOP) where its ranks are on this machine, since Horovod's background thread works
also between steps, and would be timed with the others.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvd_adam.errors import RunError
from hvd_adam.launchers import launcher

PATIENCE = 300.0  # seconds that a job gets to answer


@dataclass(frozen=True)
class Job:
    """A crew to be: its name, ranks, what its stations build, and its surroundings.

    `plain` leaves out what the launchers set (launchers/common.sh), but for the number of threads.
    """

    name: str
    ranks: int
    order: Mapping[str, Any]
    environ: Mapping[str, str] = field(default_factory=dict)
    plain: bool = False


class Crews:
    """All crews of a comparison; a context, at whose end they are gone.

    Args:
        jobs: each its own crew.
        seed: of the order of turns.
        needed: names without which there is nothing to compare; another that does not start is left out.

    Attributes:
        failed: name -> why it did not start.
    """

    def __init__(self, jobs: Sequence[Job], seed: int = 0, needed: Sequence[str] | None = None) -> None:
        self._needed = [job.name for job in jobs] if needed is None else list(needed)
        self.failed: dict[str, str] = {}
        self._jobs = list(jobs)
        self._order = random.Random(seed)
        self._token = secrets.token_hex(16)
        self._crews: dict[str, _Crew] = {}
        self._host = socket.gethostname() if "SLURM_JOB_ID" in os.environ else "127.0.0.1"  # of all ranks, or of this
        self._listener = socket.create_server((self._host, 0))
        self._folder = tempfile.TemporaryDirectory(prefix="hvd_adam-bench-")

    def __enter__(self) -> Crews:
        try:
            for job in self._jobs:
                try:
                    crew = self._start(job)
                except RunError as error:
                    if job.name in self._needed:
                        raise
                    self.failed[job.name] = str(error)
                    continue
                self._crews[job.name] = crew
                crew.freeze()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def memory(self) -> dict[str, int]:
        """Peak bytes of the largest rank of each crew, less what it held before it built anything."""
        return {name: crew.memory - crew.before for name, crew in self._crews.items()}

    def calibrate(self, seconds: float, most: int, size: int = 0) -> int:
        """Steps that fill a turn of about so many seconds, 3 to `most`, by the slowest crew; warms all of them up."""
        slowest = max(crew.turn(3, 3, size) for crew in self._crews.values())
        return max(3, min(most, round(seconds / slowest)))

    def calibrate_each(self, seconds: float, most: int, size: int = 0) -> dict[str, int]:
        """As `calibrate`, for crews that differ in what they do: steps of each."""
        return {name: max(3, min(most, round(seconds / crew.turn(3, 3, size)))) for name, crew in self._crews.items()}

    def rounds(
        self, count: int, steps: int | Mapping[str, int], size: int = 0, warm: int = 2
    ) -> Iterator[dict[str, float]]:
        """Yields, a round, each crew's seconds a step: the median of `steps` steps, on its slowest rank.

        Args:
            count: turns of each crew, in an order that is drawn anew each round.
            steps, warm: that are timed, by crew where they differ, and before them.
            size: for a crew that takes one.
        """
        names = list(self._crews)
        for _ in range(count):
            self._order.shuffle(names)
            many = {name: steps if isinstance(steps, int) else steps[name] for name in names}
            yield {name: self._crews[name].turn(many[name], warm, size) for name in list(names)}

    def close(self) -> None:
        """Ends all jobs."""
        for crew in self._crews.values():
            crew.hang_up()
        for crew in self._crews.values():
            crew.see_off()
        self._crews = {}
        self._listener.close()
        self._folder.cleanup()

    def _start(self, job: Job) -> _Crew:
        address = f"{self._host}:{self._listener.getsockname()[1]}"
        log = Path(self._folder.name) / f"{len(self._crews)}.log"
        command = [str(launcher("mpirun")), "-n", str(job.ranks), "--"]
        command += [sys.executable, "-m", "hvd_adam.bench.station", address, self._token, job.name]
        environ = {**os.environ, **job.environ}
        if job.plain:
            environ["HVD_ADAM_PLAIN"] = "1"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environ, start_new_session=True,
                preexec_fn=_end_with_the_driver,
            )  # fmt: skip
        crew = _Crew(job, process, log)
        try:
            crew.stations = [self._accept(crew) for _ in range(job.ranks)]
            crew.build(f"file://{self._folder.name}/{len(self._crews)}.store")
        except BaseException:
            crew.hang_up()
            crew.see_off()
            raise
        return crew

    def _accept(self, crew: _Crew) -> _Station:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self._listener], [], [], 0.5)
            if ready:
                station = _Station(self._listener.accept()[0])
                hello = station.hear(PATIENCE)
                if hello.get("token") == self._token and hello.get("crew") == crew.job.name:
                    station.pid, station.host = hello["pid"], hello["host"]
                    return station
                station.close()
            elif crew.process.poll() is not None:
                break
        raise crew.failed("it did not start")


def _end_with_the_driver() -> None:
    """Has Linux end this process when its parent dies: a rank that stands still would never notice."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class _Station:
    """The driver's end of one rank's connection."""

    pid = 0
    host = ""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rw", encoding="utf-8", newline="\n")

    def say(self, **order: Any) -> None:
        self._file.write(json.dumps(order) + "\n")
        self._file.flush()

    def hear(self, patience: float) -> dict[str, Any]:
        """The next answer.

        Raises:
            OSError: none came in `patience` seconds, or the rank has ended.
        """
        self._socket.settimeout(patience)
        text = self._file.readline()
        if not text:
            raise ConnectionError("the rank has ended")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()


class _Crew:
    """A peer's job, from the driver's side."""

    def __init__(self, job: Job, process: subprocess.Popen[bytes], log: Path) -> None:
        self.job, self.process, self._log = job, process, log
        self.stations: list[_Station] = []
        self.memory = self.before = 0

    def build(self, store: str) -> None:
        for rank, station in enumerate(self.stations):
            station.say(**self.job.order, rank=rank, ranks=self.job.ranks, store=store)
        self.before = max(answer["before"] for answer in self._answers())

    def turn(self, steps: int, warm: int, size: int) -> float:
        """Seconds a step of the slowest rank, the others standing still."""
        self._signal(signal.SIGCONT)
        for station in self.stations:
            station.say(steps=steps, warm=warm, size=size)
        answers = self._answers()
        self.freeze()
        return max(sorted(answer["seconds"])[len(answer["seconds"]) // 2] for answer in answers)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def hang_up(self) -> None:
        self._signal(signal.SIGCONT)
        for station in self.stations:
            station.close()

    def see_off(self) -> None:
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def failed(self, found: str) -> RunError:
        """The error that says what the job printed last."""
        last = self._log.read_text(errors="replace").strip().splitlines()[-12:]
        return RunError(
            f"{self.job.name}: {found}",
            "it printed:\n    " + "\n    ".join(last) if last else "it printed nothing",
            "leave it out with --peers, or try: hvd-adam doctor --run",
        )

    def _answers(self) -> list[dict[str, Any]]:
        try:
            answers = [station.hear(PATIENCE) for station in self.stations]
        except OSError as error:
            raise self.failed(f"a rank gave no answer ({error})") from error
        self.memory = max(self.memory, *(answer["memory"] for answer in answers))
        return answers

    def _signal(self, number: int) -> None:
        here = socket.gethostname()
        for station in self.stations:
            if station.host == here:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(station.pid, number)
