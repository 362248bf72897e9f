"""Runs an hour of a study, beside starting each of its runs by itself.

hvd-adam study run STUDY.yaml                                     all runs, warm processes, cores filled
launchers/mpirun -n RANKS -- hvd-adam train RUN/config.yaml       each run a launch of its own, cores filled
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvd_adam.bench.calls import timed
from hvd_adam.bench.ratios import Ratio, ratio
from hvd_adam.errors import RunError
from hvd_adam.launchers import launcher

HVD_ADAM = (sys.executable, "-m", "hvd_adam")


@dataclass
class Throughput:
    """Seconds of a run, a value a round: in the study, and each launched by itself."""

    study: str
    runs: int = 0
    in_study: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> Ratio:
        """Runs an hour of the study to those of single launches."""
        return ratio(self.alone, self.in_study)

    def to_plain(self) -> dict[str, Any]:
        """JSON's kinds only."""
        return {"study": self.study, "runs": self.runs, "in_study": self.in_study, "alone": self.alone}


def measure(
    study: str,
    overrides: Sequence[str],
    rounds: int,
    said: Callable[[str], None] = lambda _: None,
    kept: Callable[[Throughput], None] = lambda _: None,
) -> Throughput:
    """Times whole studies, start and end included, and after each one launch or more of every cell of it.

    Args:
        study: path of its YAML.
        overrides: as `study run` takes them.
        rounds: of both; the launches are of another seed each round.
        said, kept: see `step.compare`.

    Raises:
        RunError: the study or a run fails.
    """
    found = Throughput(study)
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="hvd_adam-bench-") as place:
            folder = Path(place) / "study"
            seconds = timed([*HVD_ADAM, "study", "run", study, *overrides, "--folder", str(folder)])
            cells = _runs(folder)
            found.runs = sum(len(runs) for runs in cells.values())
            said(f"round {number + 1} of {rounds}: {found.runs} runs in {seconds:.1f} s")
            alone = sum(_alone(runs, number, Path(place)) * len(runs) for runs in cells.values())
            found.in_study.append(seconds / found.runs)
            found.alone.append(alone / found.runs)
            said(f"round {number + 1} of {rounds}: each by itself {alone:.1f} s")
        kept(found)
    return found


def _runs(folder: Path) -> dict[str, list[Path]]:
    """The finished runs by cell."""
    cells: dict[str, list[Path]] = {}
    for result in sorted(folder.rglob("result.json")):
        cells.setdefault(str(result.parent.parent), []).append(result.parent)
    if not cells:
        raise RunError(f"{folder} has no finished run", "there is nothing to compare with", "hvd-adam study run first")
    return cells


def _alone(runs: Sequence[Path], number: int, place: Path) -> float:
    """Seconds a run where each is launched by itself, as many at a time as the cores hold."""
    ranks = json.loads((runs[0] / "result.json").read_text())["ranks"]
    side_by_side = max(1, len(os.sched_getaffinity(0)) // ranks)
    chosen = [runs[(number + i) % len(runs)] for i in range(side_by_side)]
    commands = []
    for i, run in enumerate(chosen):
        where = place / f"alone-{number}-{run.parent.name}-{i}"
        program = [*HVD_ADAM, "train", str(run / "config.yaml"), "--run", str(where)]
        commands.append([str(launcher("mpirun")), "-n", str(ranks), "--", *program] if ranks > 1 else program)
    started = time.perf_counter()
    with ThreadPoolExecutor(side_by_side) as pool:
        list(pool.map(timed, commands))
    return (time.perf_counter() - started) / side_by_side


def lines(found: Throughput) -> list[str]:
    """Sentences on what came of it."""
    study, alone = (3600 / (sum(values) / len(values)) for values in (found.in_study, found.alone))
    return [
        f"{found.ratio} times the runs an hour of single launches",
        f"{found.study}, {found.runs} runs: {study:,.0f} an hour, and {alone:,.0f} where each is launched by itself",
    ]
