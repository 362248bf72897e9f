"""GenericAdam's step beside torch's Adam: a job for each of torch's, on ranks that step at the same time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from hvd_adam.bench.crews import Crews, Job
from hvd_adam.bench.names import INSTALLED, LAUNCHER, job_name
from hvd_adam.bench.ratios import Ratio, median, ratio
from hvd_adam.bench.surroundings import IMPORTS
from hvd_adam.bench.workloads import DTYPES, WORKLOADS, numbers, shapes_of
from hvd_adam.optim.generic_adam import GenericAdam

TURN = 0.3  # seconds of a turn, about
MOST = 1000  # steps of a turn
_OURS, _PEER = 0, 1  # whose step a job makes
Tensors = list[torch.Tensor]

PEERS: dict[str, Callable[[Tensors], torch.optim.Optimizer]] = {
    "torch fused": lambda p: torch.optim.Adam(p, fused=True),
    "torch foreach": lambda p: torch.optim.Adam(p, foreach=True),
    "torch for-loop": lambda p: torch.optim.Adam(p, foreach=False, fused=False),
    "torch default": lambda p: torch.optim.Adam(p),
    "GenericAdam, scheduled": lambda p: GenericAdam(
        p, "0.001/sqrt(t)", (0.9, "1 - 0.9/t"), bias_correction=False, eps_in="v0", v0=1e-8
    ),
}
LISTS = (*WORKLOADS, "1e4", "1e6", "1e8", "1000x10")


def needed_memory(name: str, ranks: int, dtype: str) -> int:
    """Bytes of one job: parameters, gradients, the moments of two, and what torch's default keeps on its way."""
    return ranks * (8 * DTYPES[dtype].itemsize * numbers(name) + IMPORTS)


@dataclass(frozen=True)
class Row:
    """A peer in its surroundings and ours in the same processes: seconds of a step, a value a start."""

    peer: str
    surroundings: str
    ours: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> Ratio:
        """Our time to the peer's, start by start."""
        return ratio(self.ours, self.seconds)


@dataclass
class Timings:
    """All rows on the parameters of that name."""

    name: str
    dtype: str
    ranks: int
    rows: list[Row] = field(default_factory=list)

    def to_plain(self) -> dict[str, Any]:
        """JSON's kinds only."""
        rows = [asdict(row) for row in self.rows]
        return {"parameters": self.name, "dtype": self.dtype, "ranks": self.ranks, "rows": rows}


def measure(
    name: str,
    ranks: int,
    peers: Sequence[str],
    rounds: int,
    dtype: str = "float32",
    said: Callable[[str], None] = lambda _: None,
    kept: Callable[[Timings], None] = lambda _: None,
) -> Timings:
    """Times a step of each peer and of ours, in turn, in a job that starts anew for every round.

    Both step on the same parameters and gradients: how fast memory is depends on where it lies, and on the minute.
    No job has two of torch's optimizers: the temporaries of its default cost what the life of the process makes them
    cost, how much freed memory there is, and whether malloc keeps it. Peers run as they are installed and as the
    launchers start them, and jobs one after the other.

    Args:
        name: of the parameters.
        ranks: processes of each job. They step at the same time, as they do in training, each the whole step.
        peers: names.
        rounds: starts of each.
        dtype: of parameters and gradients.
        said, kept: see `step.compare`.

    Raises:
        ConfigError: an unknown name.
        RunError: a job does not start or does not answer.
    """
    shapes_of(name)
    found = Timings(name, dtype, ranks, [Row(peer, where) for where in (LAUNCHER, INSTALLED) for peer in peers])
    order, rows = random.Random(0), list(found.rows)
    for number in range(rounds):
        order.shuffle(rows)
        for row in rows:
            what = {"build": "optimizer", "peer": row.peer, "parameters": name, "dtype": dtype}
            job = Job(job_name(row.peer, row.surroundings), ranks, what, plain=row.surroundings == INSTALLED)
            turns = [(_OURS, row.ours), (_PEER, row.seconds)]
            order.shuffle(turns)
            with Crews([job], number) as crews:
                for which, seconds in turns:
                    steps = crews.calibrate(TURN, MOST, which)
                    seconds += next(crews.rounds(1, steps, which)).values()
        kept(found)
        said(f"{name}: {number + 1} of {rounds} starts of {len(rows)} jobs")
    return found


def build(peer: str, name: str, dtype: str) -> Callable[[int], None]:
    """Return what makes one step, of ours or of that peer, on parameters that each have a gradient."""
    parameters = [torch.zeros(size, dtype=DTYPES[dtype], requires_grad=True) for size in shapes_of(name)]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizers = {_OURS: GenericAdam(parameters), _PEER: PEERS[peer](parameters)}

    def step(which: int) -> None:
        optimizers[which].step()

    return step


def table(found: Sequence[Timings]) -> Any:
    """A rich table, ratios first."""
    from rich.table import Table

    title = f"An optimizer's step, {found[0].ranks} ranks" if found else "An optimizer's step"
    shown = Table(title=title, title_justify="left", box=None)
    for column in ("ours / it", "ours, ms", "it, ms"):
        shown.add_column(column, justify="right")
    for column in ("it", "surroundings", "parameters"):
        shown.add_column(column)
    for one in found:
        for row in one.rows:
            times = (f"{1e3 * median(seconds).value:.3g}" for seconds in (row.ours, row.seconds))
            shown.add_row(str(row.ratio), *times, row.peer, row.surroundings, f"{one.name}, {one.dtype}")
    return shown
