"""Starts two ranks the way a user would, with a limit, and collects what they report."""

from __future__ import annotations

import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import IO

from hvd_adam.doctor.environment import Timing, Trial
from hvd_adam.doctor.facts.places import Places
from hvd_adam.doctor.two_ranks import MARK, PHASES

ENGINES = ("horovod", "mpi")
LIMIT = 60.0  # seconds
STEPS_OF_ENDING = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))  # signal, seconds to wait


def try_engine(engine: str, places: Places, nodes: int = 1, limit: float = LIMIT) -> Trial:
    """Two ranks of one engine, on two nodes where the allocation has them.

    Args:
        engine: "horovod" or "mpi".
        places: for the launcher and the environment.
        nodes: of the allocation.
        limit: seconds after which the ranks are ended.
    """
    launcher = places.launcher("mpirun")
    if launcher is None:
        return Trial(engine, "launchers/mpirun", 0.0, 127, lines=("launchers/mpirun is not there",))
    command = [str(launcher), "-n", "2", "--", sys.executable, "-m", "hvd_adam.doctor.two_ranks", engine]
    environ = dict(places.environ)
    # so that two ranks of one machine try Horovod's own sum, and those of two nodes what they would do
    environ["HVD_ADAM_SUMS"] = "direct" if engine == "mpi" and nodes > 1 else engine
    if nodes > 1:  # a rank a node; Open MPI 4, and 5
        environ.setdefault("OMPI_MCA_rmaps_base_mapping_policy", "node")
        environ.setdefault("PRTE_MCA_rmaps_default_mapping_policy", "node")
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        code = _run(command, environ, limit, output)
        output.seek(0)
        text = output.read().decode(errors="replace")
    return read_trial(engine, shlex.join(command), time.monotonic() - started, code, text)


def read_trial(engine: str, command: str, seconds: float, code: int | None, text: str) -> Trial:
    """What the ranks' output says."""
    reports, rest = _reports(text), _rest(text)
    facts = {key: value for report in reports for key, value in report.items()}
    ended = "Timeout (" in text  # the ranks' own limit: they stood still and ended themselves
    reached = max((report["phase"] for report in reports), key=PHASES.index, default="nothing")
    failed = code != 0 or reached != "parted"
    return Trial(
        engine=engine,
        command=command,
        seconds=seconds,
        code=None if ended else code,
        reached=reached,
        size=facts.get("size", 0),
        hosts=tuple(facts.get("hosts", ())),
        right=facts.get("right", False),
        small=_timing(facts.get("small")),
        large=_timing(facts.get("large")),
        fused=facts.get("fused", {}),
        lines=_excerpt(rest) if failed else (),
    )


def _run(command: Sequence[str], environ: Mapping[str, str], limit: float, output: IO[bytes]) -> int | None:
    """The exit code; None where it had to be ended. mpirun ends its ranks when it is asked to, so it is asked first."""
    process = subprocess.Popen(
        list(command),
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        for kind, patience in STEPS_OF_ENDING:
            if process.poll() is None:
                _end(process, kind, patience)


def _end(process: subprocess.Popen[bytes], kind: signal.Signals, patience: float) -> None:
    try:
        os.killpg(process.pid, kind)
        process.wait(timeout=patience)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass


def _reports(text: str) -> list[dict]:
    reports = []
    for line in text.splitlines():
        if line.startswith(MARK):
            try:
                reports.append(json.loads(line.removeprefix(MARK)))
            except ValueError:
                continue
    return reports


def _rest(text: str) -> list[str]:
    """The other lines; the launcher's own first line and empty ones left out."""
    lines = (line.rstrip() for line in text.splitlines())
    return [line for line in lines if line.strip("-= ") and not line.startswith((MARK, "+ "))]


def _excerpt(lines: list[str], each: int = 8) -> tuple[str, ...]:
    """The first lines and the last: MPI says the cause first, Python says it last."""
    return tuple(lines if len(lines) <= 2 * each + 1 else [*lines[:each], "...", *lines[-each:]])


def _timing(seconds: list[float] | None) -> Timing | None:
    if not seconds:
        return None
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(len(seconds), median, low, high)
