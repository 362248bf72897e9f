"""How long a start takes: the help, a check, and from the launch of two ranks to the end of their first step."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvd_adam.bench.calls import failed, timed
from hvd_adam.bench.ratios import Ratio, median, ratio
from hvd_adam.launchers import launcher

IMPORT, HELP, CHECK, STEP = "import torch", "hvd-adam --help", "hvd-adam check", "launch to first step"
_PATIENCE = 300.0  # seconds
_DIGITS = """task: digits
algorithm: {{name: adam, lr: 0.003}}
workers: {ranks}
local_batch: 32
steps: 1
"""


@dataclass
class Starting:
    """Seconds of each start, a value a round."""

    ranks: int
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def ratio(self) -> Ratio:
        """From the launch to the first step, to the import of torch alone."""
        return ratio(self.seconds[STEP], self.seconds[IMPORT])

    def to_plain(self) -> dict[str, Any]:
        """JSON's kinds only."""
        return {"ranks": self.ranks, "seconds": self.seconds}


def measure(
    ranks: int,
    rounds: int,
    said: Callable[[str], None] = lambda _: None,
    kept: Callable[[Starting], None] = lambda _: None,
) -> Starting:
    """Times all four in random order; one round before the first is not counted: files come from memory after it.

    Raises:
        RunError: one of them fails.
    """
    found, generator = Starting(ranks), random.Random(0)
    ours = (sys.executable, "-m", "hvd_adam")
    ways: dict[str, Callable[[], float]] = {
        IMPORT: lambda: timed([sys.executable, "-c", "import torch"]),
        HELP: lambda: timed([*ours, "--help"]),
        CHECK: lambda: timed([*ours, "check", "--algorithm", "adam", "--lr", "1e-3"], (0, 3)),
        STEP: lambda: _first_step(ranks),
    }
    for number in range(rounds + 1):
        for name in generator.sample(list(ways), len(ways)):
            seconds = ways[name]()
            if number:
                found.seconds.setdefault(name, []).append(seconds)
        kept(found)
        said(f"round {number} of {rounds}")
    return found


def _first_step(ranks: int) -> float:
    """Seconds until the trace has the line of the first step."""
    with tempfile.TemporaryDirectory(prefix="hvd_adam-bench-") as place:
        run, said = Path(place) / "run", Path(place) / "said"
        config = Path(place) / "digits.yaml"
        config.write_text(_DIGITS.format(ranks=ranks))
        command = [str(launcher("mpirun")), "-n", str(ranks), "--", sys.executable, "-m", "hvd_adam"]
        command += ["train", str(config), "--run", str(run)]
        started = time.perf_counter()
        with said.open("wb") as file:
            job = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
            try:
                seconds = _until_stepped(run / "trace.jsonl", job, started)
                code = job.wait(_PATIENCE)
            finally:
                job.kill()
        if seconds is None or code:
            raise failed(command, code, said.read_text(errors="replace"))
        return seconds


def _until_stepped(trace: Path, job: subprocess.Popen[bytes], started: float) -> float | None:
    while time.perf_counter() - started < _PATIENCE:
        over = job.poll() is not None
        if trace.exists() and '"kind": "step"' in trace.read_text():
            return time.perf_counter() - started
        if over:
            return None
        time.sleep(0.01)
    return None


def lines(found: Starting) -> list[str]:
    """Sentences on what came of it."""
    return [f"launch to first step / import torch: {found.ratio}"] + [
        f"{name}: {median(values)} s" for name, values in found.seconds.items()
    ]
