"""A training step beside the peers': every peer is its own job, all take turns in random order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hvd_adam.bench.crews import Crews, Job
from hvd_adam.bench.names import BARE, INSTALLED, LAUNCHER, OURS, job_name, known
from hvd_adam.bench.peers import PEERS
from hvd_adam.bench.ratios import Ratio, median, ratio
from hvd_adam.bench.surroundings import IMPORTS, free_memory, lacking
from hvd_adam.bench.workloads import DTYPES, numbers, workload

TURN = 1.0  # seconds of a turn, about
_ALIKE = (BARE, *(name for name in PEERS if name.startswith(f"{OURS}-")))  # timed in the launchers' environment alone


@dataclass(frozen=True)
class Row:
    """A peer in its surroundings: seconds a step by round, and peak bytes beyond its imports."""

    peer: str
    surroundings: str
    seconds: list[float]
    memory: int

    @property
    def name(self) -> str:
        """Peer and surroundings in one word, as its job is called."""
        return job_name(self.peer, self.surroundings)

    def after(self, seconds: float, memory: int) -> Row:
        """The row with one more round."""
        return replace(self, seconds=[*self.seconds, seconds], memory=memory)


@dataclass
class Comparison:
    """All rows of one model on so many ranks; `left_out`: peer -> why."""

    model: str
    ranks: int
    steps: int = 0
    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    dtype: str = "float32"

    def row(self, peer: str, surroundings: str) -> Row | None:
        """The row of that peer in those surroundings."""
        return next((r for r in self.rows if (r.peer, r.surroundings) == (peer, surroundings)), None)

    def ratio(self, row: Row) -> Ratio | None:
        """Our step, as the launchers start it, to that row's."""
        ours = self.row(OURS, LAUNCHER)
        return ratio(ours.seconds, row.seconds) if ours and ours.seconds else None

    def to_plain(self) -> dict[str, Any]:
        """JSON's kinds only."""
        rows = [
            {"peer": r.peer, "surroundings": r.surroundings, "seconds": r.seconds, "memory": r.memory}
            for r in self.rows
        ]
        said = {"model": self.model, "ranks": self.ranks, "dtype": self.dtype, "steps": self.steps}
        return {**said, "rows": rows, "left_out": self.left_out}


def compare(
    model: str,
    ranks: int,
    peers: Sequence[str],
    rounds: int,
    samples: int | None = None,
    said: Callable[[str], None] = lambda _: None,
    kept: Callable[[Comparison], None] = lambda _: None,
    dtype: str = "float32",
    turn: float = TURN,
    fresh: bool = False,
) -> Comparison:
    """Times one training step of a model.

    Args:
        model, peers: names; a peer that is not installed is left out, and said.
        ranks: processes of each job.
        rounds: turns of each job.
        samples: of a rank; None takes the workload's own.
        said: gets a line of progress.
        kept: gets the comparison after every round, so that an interrupted one is not lost.
        dtype: precision of model and batch; peers that cannot average it are left out, and said.
        turn: seconds of a turn, about.
        fresh: starts all jobs anew for every round. A step differs from start to start: rounds of one start are
            alike, and their interval is too narrow.

    Raises:
        ConfigError: an unknown name.
        RunError: a job does not start or does not answer.
    """
    load = workload(model)
    found = Comparison(model, ranks, dtype=dtype)
    jobs: list[Job] = []
    room, what = free_memory(), []
    each = ranks * (held(model, DTYPES[dtype].itemsize) + IMPORTS)
    for name, surroundings in _rows(peers):
        why = known("peer", name, PEERS).why_not(dtype)
        if why:
            found.left_out[name] = why
            continue
        if why := lacking(each, room - each * len(jobs)):
            found.left_out[job_name(name, surroundings)] = f"beside the others {why}" if jobs else why
            continue
        order = {"build": "step", "peer": name, "model": model, "samples": samples or load.samples, "dtype": dtype}
        jobs.append(Job(job_name(name, surroundings), ranks, order, PEERS[name].environ, surroundings == INSTALLED))
        what.append((name, surroundings))
    found.rows = [Row(name, surroundings, [], 0) for name, surroundings in what]
    if not jobs:
        kept(found)
        said(f"{model}: left out, memory does not hold it")
        return found
    needed = [job_name(OURS, LAUNCHER)]
    for start in range(rounds if fresh else 1):
        said(f"{model}: {len(jobs)} jobs of {ranks} ranks start, one after the other")
        with Crews(jobs, start, needed) as crews:
            for name, why in crews.failed.items():
                found.left_out[name] = f"it does not start: {why}"
                said(f"{name}: left out, {why}")
            jobs = [job for job in jobs if job.name not in crews.failed]
            found.rows = [row for row in found.rows if row.name not in crews.failed]
            needed = [job.name for job in jobs]  # what has started once has to start again
            found.steps = crews.calibrate(turn, 300)
            for seconds in crews.rounds(1 if fresh else rounds, found.steps):
                memory = crews.memory
                found.rows = [row.after(seconds[row.name], memory[row.name]) for row in found.rows]
                kept(found)
                said(f"{model}: round {len(found.rows[0].seconds)} of {rounds}, {found.steps} steps a turn")
    return found


def _rows(peers: Sequence[str]) -> list[tuple[str, str]]:
    """Peers and surroundings, in the order in which they get room: ours first."""
    names = list(dict.fromkeys([OURS, *peers]))
    return [(n, s) for n in names for s in ((LAUNCHER,) if n in _ALIKE else (LAUNCHER, INSTALLED))]


def held(model: str, itemsize: int) -> int:
    """Bytes of parameters, gradients, two moments and one copy of the gradients on their way."""
    return 5 * itemsize * numbers(model)


def table(found: Comparison) -> Any:
    """A rich table, ratios first."""
    from rich.table import Table

    title = f"{found.model}, {found.dtype}, {found.ranks} ranks: a training step"
    shown = Table(title=title, title_justify="left", box=None)
    shown.add_column("ours / it", justify="right")
    shown.add_column("ms a step", justify="right")
    for name in ("peer", "surroundings", ""):
        shown.add_column(name)
    for row in found.rows:
        if row.seconds:
            milliseconds = f"{1e3 * median(row.seconds).value:.2f}"
            shown.add_row(str(found.ratio(row) or ""), milliseconds, row.peer, row.surroundings, PEERS[row.peer].what)
    for name, why in found.left_out.items():
        shown.add_row("", "", name, "", why)
    return shown
