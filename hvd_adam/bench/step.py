"""A training step beside the peers': every peer is its own job, all take turns in random order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hvd_adam.bench.crews import Crews, Job
from hvd_adam.bench.names import known
from hvd_adam.bench.peers import BARE, OURS, PEERS
from hvd_adam.bench.ratios import Ratio, median, ratio
from hvd_adam.bench.workloads import WORKLOADS

INSTALLED, LAUNCHER = "as installed", "launcher's"
TURN = 1.0  # seconds of a turn, about


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
        return {"model": self.model, "ranks": self.ranks, "steps": self.steps, "rows": rows, "left_out": self.left_out}


def job_name(peer: str, surroundings: str) -> str:
    """What the job of a peer is called."""
    return f"{peer} ({surroundings})"


def compare(
    model: str,
    ranks: int,
    peers: Sequence[str],
    rounds: int,
    samples: int | None = None,
    said: Callable[[str], None] = lambda _: None,
    kept: Callable[[Comparison], None] = lambda _: None,
) -> Comparison:
    """Times one training step of a model.

    Args:
        model, peers: names; a peer that is not installed is left out, and said.
        ranks: processes of each job.
        rounds: turns of each job.
        samples: of a rank; None takes the workload's own.
        said: gets a line of progress.
        kept: gets the comparison after every round, so that an interrupted one is not lost.

    Raises:
        ConfigError: an unknown name.
        RunError: a job does not start or does not answer.
    """
    known("model", model, WORKLOADS)
    found = Comparison(model, ranks)
    jobs, what = [], []
    for name in dict.fromkeys([OURS, *peers]):
        missing = known("peer", name, PEERS).missing
        if missing:
            found.left_out[name] = f"{', '.join(missing)} is not installed"
            continue
        for surroundings in (LAUNCHER,) if name == BARE else (INSTALLED, LAUNCHER):
            order = {"build": "step", "peer": name, "model": model, "samples": samples}
            plain = surroundings == INSTALLED
            jobs.append(Job(job_name(name, surroundings), ranks, order, PEERS[name].environ, plain))
            what.append((name, surroundings))
    said(f"{model}: {len(jobs)} jobs of {ranks} ranks start, one after the other")
    with Crews(jobs) as crews:
        found.steps = crews.calibrate(TURN, 300)
        found.rows = [Row(name, surroundings, [], 0) for name, surroundings in what]
        for number, seconds in enumerate(crews.rounds(rounds, found.steps), 1):
            memory = crews.memory
            found.rows = [row.after(seconds[row.name], memory[row.name]) for row in found.rows]
            kept(found)
            said(f"{model}: round {number} of {rounds}, {found.steps} steps a turn")
    return found


def table(found: Comparison) -> Any:
    """A rich table, ratios first."""
    from rich.table import Table

    shown = Table(title=f"{found.model}, {found.ranks} ranks: a training step", title_justify="left", box=None)
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
