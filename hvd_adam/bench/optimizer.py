"""GenericAdam's step beside torch's Adam: every optimizer is a job of its own, on ranks that step at the same time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
OURS, FUSED = "GenericAdam", "torch fused"
Tensors = list[torch.Tensor]

PEERS: dict[str, Callable[[Tensors], torch.optim.Optimizer]] = {
    OURS: lambda p: GenericAdam(p),
    "GenericAdam, scheduled": lambda p: GenericAdam(
        p, "0.001/sqrt(t)", (0.9, "1 - 0.9/t"), bias_correction=False, eps_in="v0", v0=1e-8
    ),
    FUSED: lambda p: torch.optim.Adam(p, fused=True),
    "torch foreach": lambda p: torch.optim.Adam(p, foreach=True),
    "torch for-loop": lambda p: torch.optim.Adam(p, foreach=False, fused=False),
    "torch default": lambda p: torch.optim.Adam(p),
}
LISTS = (*WORKLOADS, "1e4", "1e6", "1e8", "1000x10")


def needed_memory(name: str, ranks: int, dtype: str) -> int:
    """Bytes of one job: parameters, gradients, two moments, and what torch's default keeps on its way."""
    return ranks * (6 * DTYPES[dtype].itemsize * numbers(name) + IMPORTS)


@dataclass
class Timings:
    """Seconds of a step of each optimizer in its surroundings, a value a start, on the parameters of that name."""

    name: str
    dtype: str
    ranks: int
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def ratio(self, peer: str, surroundings: str) -> Ratio:
        """Our time, as the launchers start it, to a peer's, round by round."""
        return ratio(self.seconds[OURS, LAUNCHER], self.seconds[peer, surroundings])

    def to_plain(self) -> dict[str, Any]:
        """JSON's kinds only."""
        rows = [{"peer": peer, "surroundings": where, "seconds": s} for (peer, where), s in self.seconds.items()]
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
    """Times a step of each optimizer, in a job that is started anew for every round and has the machine to itself.

    What torch's default takes for its temporaries depends on the life of the process: how much of a heap it finds,
    and whether its malloc keeps what is freed. So optimizers share no process, and peers run as they are installed
    and as the launchers start them; ours, which takes none, as the launchers start it.

    Args:
        name: of the parameters.
        ranks: processes of each job. They step at the same time, as they do in training, each the whole step.
        peers: names; ours is always among them.
        rounds: starts of each.
        dtype: of parameters and gradients.
        said, kept: see `step.compare`.

    Raises:
        ConfigError: an unknown name.
        RunError: a job does not start or does not answer.
    """
    shapes_of(name)
    rows = [(peer, LAUNCHER) for peer in dict.fromkeys([OURS, *peers])]
    rows += [(peer, INSTALLED) for peer, _ in rows if peer.startswith("torch")]
    found = Timings(name, dtype, ranks, {row: [] for row in rows})
    order = random.Random(0)
    for number in range(rounds):
        order.shuffle(rows)
        for peer, where in rows:
            what = {"build": "optimizer", "peer": peer, "parameters": name, "dtype": dtype}
            with Crews([Job(job_name(peer, where), ranks, what, plain=where == INSTALLED)], number) as crews:
                (seconds,) = next(crews.rounds(1, crews.calibrate(TURN, MOST))).values()
            found.seconds[peer, where].append(seconds)
        kept(found)
        said(f"{name}: {number + 1} of {rounds} starts of {len(rows)} jobs")
    return found


def build(peer: str, name: str, dtype: str) -> Callable[[], None]:
    """Return what makes one step of that optimizer, on parameters that each have a gradient."""
    parameters = [torch.zeros(size, dtype=DTYPES[dtype], requires_grad=True) for size in shapes_of(name)]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer = PEERS[peer](parameters)

    def step() -> None:
        optimizer.step()

    return step


def table(found: Sequence[Timings]) -> Any:
    """A rich table, ratios first."""
    from rich.table import Table

    title = f"An optimizer's step, {found[0].ranks} ranks" if found else "An optimizer's step"
    shown = Table(title=title, title_justify="left", box=None)
    shown.add_column("ours / it", justify="right")
    shown.add_column("ms a step", justify="right")
    for column in ("peer", "surroundings", "parameters"):
        shown.add_column(column)
    for one in found:
        for (peer, where), seconds in one.seconds.items():
            milliseconds = f"{1e3 * median(seconds).value:.3g}"
            shown.add_row(str(one.ratio(peer, where)), milliseconds, peer, where, f"{one.name}, {one.dtype}")
    return shown
