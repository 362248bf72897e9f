"""Reads run directories, and nothing else: a study made on a cluster is analysed on a laptop without torch."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from hvd_adam.config import Target
from hvd_adam.config import from_plain as run_from_plain
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.folder import Folder
from hvd_adam.study.passage import Passage
from hvd_adam.study.plan import Cell, Plan, Run

SCHEMA = 1
MUCH = 300_000_000  # bytes of traces from which on several processes read them
SHOWN = 100  # points of a run's loss that are kept for pictures

REACHED, CENSORED, DIVERGED = "reached", "censored", "diverged"
AT_START, FAILED, MISSING, UNREADABLE = "reached at step 0", "failed", "missing", "unreadable"


@dataclass(frozen=True, eq=False)
class Record:
    """What one run directory says.

    Attributes:
        outcome: reached, censored (its budget ended), diverged, or why it says nothing: reached at step 0, failed,
            missing, unreadable. Of the study's first target.
        reason: why, where it says nothing.
        evaluations: (step, measures), steps increasing.
        losses: (step, samples, training loss of the batch), at most `SHOWN` of them.
        noise: (measurements, 2): mean over workers of ||g_w||^2, and ||g||^2, in order.
        step_seconds: seconds a step by phase, the mean over the run; of rank 0. None of a run `elsewhere`.
        facts: the first line of the trace: engine, ranks, hosts, versions.
    """

    run: Run
    cell: Cell
    outcome: str
    reason: str = ""
    evaluations: tuple[tuple[int, Mapping[str, float]], ...] = ()
    losses: tuple[tuple[int, int, float], ...] = ()
    noise: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    steps: int = 0
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def elsewhere(self) -> bool:
        """Whether it was begun on another number of ranks than the study now has: the same steps, but other seconds."""
        return int(self.facts.get("ranks", self.cell.ranks)) != self.cell.ranks

    def passage(self, target: Target) -> Passage | None:
        """Its first passage; None where the run says nothing of it."""
        if self.outcome in (FAILED, MISSING, UNREADABLE) or not self.evaluations:
            return None
        found = target.first_passage(self.evaluations)
        if found is not None and found[1] == 0:
            return None
        low, high = found or (target.not_met_until(self.evaluations), math.inf)
        diverged = found is None and self.outcome == DIVERGED
        return Passage(self.cell.group, self.cell.batch, self.cell.workers, self.run.seed, low, high, diverged)


def collect(study: StudyConfig, made: Plan, folder: Folder, processes: int = 1) -> list[Record]:
    """A record for each run of the plan, tuning included, whether or not it was made.

    Args:
        processes: that may read side by side; they are only started for traces of `MUCH` bytes in all.
    """
    failures = folder.failures()
    jobs = [
        Job(folder.of(run), run, cell, study.targets[0], failures.get(run.place))
        for cell in (*made.tuning, *made.cells)
        for run in cell.runs
    ]
    if processes > 1 and sum(job.size for job in jobs) > MUCH:
        return _side_by_side(jobs, processes)
    return [read_run(job.path, job.run, job.cell, job.target, job.failure) for job in jobs]


@dataclass(frozen=True)
class Job:
    """One run directory to be read, see `read_run`."""

    path: Path
    run: Run
    cell: Cell
    target: Target
    failure: Mapping[str, Any] | None

    @property
    def size(self) -> int:
        """Bytes of its trace; 0 where there is none."""
        try:
            return (self.path / "trace.jsonl").stat().st_size
        except OSError:
            return 0


_jobs: Sequence[Job] = ()  # of a reading process


def _side_by_side(jobs: Sequence[Job], processes: int) -> list[Record]:
    """Reads in several processes; jobs go there by forking, and what comes back leaves plan and cell out."""
    with ProcessPoolExecutor(processes, get_context("fork"), _begin, (jobs,)) as pool:
        told = list(pool.map(_read, range(len(jobs)), chunksize=8))
    return [Record(job.run, job.cell, **one) for job, one in zip(jobs, told, strict=True)]


def _begin(jobs: Sequence[Job]) -> None:
    global _jobs
    _jobs = jobs


def _read(place: int) -> dict[str, Any]:
    job = _jobs[place]
    record = read_run(job.path, job.run, job.cell, job.target, job.failure)
    return {key: value for key, value in vars(record).items() if key not in ("run", "cell")}


def read_run(path: Path, run: Run, cell: Cell, target: Target, failure: Mapping[str, Any] | None = None) -> Record:
    """The record of one run directory; a fault in it becomes its outcome, with the reason."""
    if failure is not None:
        return Record(run, cell, FAILED, str(failure.get("reason", "")))
    if not (path / "trace.jsonl").is_file() or not (path / "result.json").is_file():
        return Record(run, cell, MISSING, "it has not ended yet" if path.is_dir() else "it was not made")
    try:
        result = json.loads((path / "result.json").read_text())
        lines = _Lines.of(path / "trace.jsonl")
        lines.check(run, result, target)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Record(run, cell, UNREADABLE, str(error) or type(error).__name__)
    steps = int(result.get("step", 0))
    seconds = {phase: float(total) / steps for phase, total in result.get("seconds", {}).items()} if steps else {}
    record = Record(
        run, cell, _outcome(result, target, lines.evaluations), "", tuple(lines.evaluations), tuple(lines.losses),
        np.array(lines.noise, float).reshape(-1, 2), steps, seconds, lines.facts,
    )  # fmt: skip
    return replace(record, step_seconds={}) if record.elsewhere else record


def _outcome(result: Mapping[str, Any], target: Target, evaluations: Sequence[tuple[int, Mapping[str, float]]]) -> str:
    found = target.first_passage(evaluations)
    if found is not None:
        return AT_START if found[1] == 0 else REACHED
    if result.get("ended_by") == "diverged":
        return DIVERGED
    return CENSORED if result.get("status") == "done" else MISSING


_OURS, _STEP, _EVALUATION = b'\n{"kind": "', b'\n{"kind": "step"', b'\n{"kind": "eval"'
_PAIR, _NORM = b'"worker_square": ', b'"grad_norm": '
_LONGEST = 32  # bytes within which a number ends


class _Lines:
    """What is kept of a trace: all evaluations, and some of its steps. Most lines are never parsed."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.evaluations: list[tuple[int, dict[str, float]]] = []
        self.losses: list[tuple[int, int, float]] = []
        self.noise: list[tuple[float, float]] = []
        self.last_step = 0
        self.whole = False

    @classmethod
    def of(cls, path: Path) -> _Lines:
        """Reads a trace; a last line that was cut short is left out.

        Raises:
            ValueError: a line that is not one of ours.
        """
        text = path.read_bytes()
        if not text.endswith(b"\n"):
            text = text[: text.rfind(b"\n") + 1]
        if not text:
            raise ValueError("the trace is empty")
        lines = cls()
        lines.facts = _parsed(text[: text.find(b"\n")])
        lines.whole = text.startswith(b'{"kind": "end"', text.rfind(b"\n", 0, -1) + 1)
        if text.count(_OURS) != text.count(b"\n") - 1:
            _check_every_line(text)
        for at in _places(text, _EVALUATION):
            lines._take_evaluation(_parsed(_row(text, at)))
        lines.noise = list(_pairs(text))
        lines._take_losses(text)
        return lines

    def _take_losses(self, text: bytes) -> None:
        """Steps that lie evenly in the file, the first and the last one among them."""
        last = text.rfind(_STEP)
        wanted = [last * i // (SHOWN - 1) for i in range(SHOWN)] if last >= 0 else []
        for at in sorted({text.find(_STEP, place) for place in wanted} - {-1}):
            line = _parsed(_row(text, at))
            self.losses.append((line["step"], line["samples"], _number(line["loss"])))
            self.last_step = max(self.last_step, line["step"])

    def _take_evaluation(self, line: dict[str, Any]) -> None:
        measures = {k: _number(v) for k, v in line.items() if k not in ("kind", "step", "samples", "seconds")}
        if self.evaluations and line["step"] <= self.evaluations[-1][0]:
            raise ValueError(
                f"evaluation of step {line['step']} comes after that of {self.evaluations[-1][0]}: edited?"
            )
        self.evaluations.append((line["step"], measures))

    def check(self, run: Run, result: Mapping[str, Any], target: Target) -> None:
        """Raises ValueError where trace, result and plan do not belong together."""
        schema = self.facts.get("schema")
        if schema != SCHEMA:
            raise ValueError(f"the trace has schema {schema}, and this version reads {SCHEMA}")
        planned = run_from_plain(dict(run.config)).identity()
        for what, found in (("trace", self.facts.get("identity")), ("result", result.get("identity"))):
            if found != planned:
                raise ValueError(f"the {what} belongs to another run ({found}, and not {planned})")
        ended = int(result["step"])
        if self.last_step > ended and result.get("status") != "stopped":  # which goes on
            raise ValueError(f"the trace goes to step {self.last_step}, the result to {ended}: edited?")
        there = result.get("reached", {}).get(str(target))
        here = target.first_passage(self.evaluations)
        last = max(self.last_step, self.evaluations[-1][0] if self.evaluations else 0)
        if not self.whole and here is None and last < ended:
            raise ValueError(f"the trace is cut short: it ends at step {last}, the run at {ended}")
        if there is not None and (here is None or list(here) != list(there)):
            came = "never" if here is None else f"in ({here[0]}, {here[1]}]"
            raise ValueError(
                f"by its trace the run met {target} {came}, by its result in ({there[0]}, {there[1]}]: edited?"
            )


def _pairs(text: bytes) -> Iterator[tuple[float, float]]:
    """Mean over workers of ||g_w||^2, and ||g||^2, of each line that has both; ||g|| is the last before the other."""
    before, *after = text.split(_PAIR)
    for piece in after:
        norm = before.rfind(_NORM) + len(_NORM)
        try:
            yield float(piece[: piece.index(b"}")]), float(before[norm : before.index(b",", norm)]) ** 2
        except ValueError:
            yield _first_number(piece), _first_number(before[norm : norm + _LONGEST]) ** 2
        before = piece


def _first_number(text: bytes) -> float:
    """The number that a text begins with, up to the next comma or brace; nan and inf stand in quotes."""
    end = text.find(b"}", 0, _LONGEST)
    comma = text.find(b",", 0, _LONGEST)
    return float(text[: min(end, comma) if min(end, comma) >= 0 else max(end, comma)].strip(b'"'))


def _places(text: bytes, words: bytes) -> Iterator[int]:
    """Where the words stand."""
    at = text.find(words)
    while at >= 0:
        yield at
        at = text.find(words, at + 1)


def _row(text: bytes, before: int) -> bytes:
    """The line that follows the line break at a place."""
    return text[before + 1 : text.find(b"\n", before + 1)]


def _check_every_line(text: bytes) -> None:
    for number, row in enumerate(text.splitlines(), 1):
        if not row.startswith(_OURS[1:]):
            _parsed(row, f"line {number} of the trace")


def _parsed(row: bytes, name: str = "a line of the trace") -> dict[str, Any]:
    try:
        line = json.loads(row)
    except ValueError:
        raise ValueError(f"{name} is no JSON: {row[:60]!r}") from None
    if not isinstance(line, dict) or "kind" not in line:
        raise ValueError(f"{name} is none of ours: {row[:60]!r}")
    return line


def _number(value: Any) -> float:
    """A number of the trace; nan and inf stand there as text."""
    return float(value)


def pick_rates(study: StudyConfig, made: Plan, folder: Folder) -> dict[str, float]:
    """For each group of cells the factor of lr whose tuning runs reached the first target soonest.

    Factors are compared by how many of their runs reached it, then by the geometric mean of the steps.
    Of equals, such as where no run reached, the factor nearest to 1 is taken.
    """
    tried: dict[str, dict[float, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in collect(study, made, folder):
        if record.cell.tunes:
            tried[record.cell.tunes][record.cell.factor].append(record)
    return {
        group: min(by_factor, key=lambda factor: (*_slowness(by_factor[factor], study), abs(math.log(factor))))
        for group, by_factor in tried.items()
    }


def _slowness(records: Iterable[Record], study: StudyConfig) -> tuple[float, float]:
    found = [record.passage(study.targets[0]) for record in records]
    steps = [passage.high for passage in found if passage is not None and passage.reached]
    return -len(steps), sum(map(math.log, steps)) / len(steps) if steps else 0.0
