"""What a step of ours holds, beside what it cannot do without: parameters, gradients, two moments and activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hvd_adam.bench.crews import Crews, Job
from hvd_adam.bench.names import BARE, OURS
from hvd_adam.bench.ratios import Ratio, ratio
from hvd_adam.bench.surroundings import IMPORTS, free_memory, lacking
from hvd_adam.bench.workloads import numbers, workload

STEPS = 5  # of each job before its peak is read


@dataclass(frozen=True)
class Held:
    """Peak bytes beyond the imports of the largest rank, a value a job: of ours, and of a bare forward and backward.

    A bare step holds parameters, gradients and activations; Adam needs two moments beside them. So

        least = bare + 2 x parameters = 4 x parameters + activations.
    """

    model: str
    ours: tuple[int, ...]
    bare: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """Bytes of the model."""
        return 4 * numbers(self.model)

    @property
    def ratio(self) -> Ratio:
        """Ours to the least."""
        return ratio(self.ours, [bare + 2 * self.parameters for bare in self.bare])

    def to_plain(self) -> dict[str, Any]:
        """JSON's kinds only."""
        return {"model": self.model, "parameters": self.parameters, "ours": list(self.ours), "bare": list(self.bare)}


def needed(model: str, ranks: int) -> int:
    """Bytes of both jobs, about."""
    return ranks * (2 * IMPORTS + 8 * 4 * numbers(model))


def measure(
    model: str,
    ranks: int,
    rounds: int,
    said: Callable[[str], None] = lambda _: None,
    kept: Callable[[Held], None] = lambda _: None,
) -> Held:
    """Reads the peaks of `rounds` fresh jobs each: a peak is the whole life's. `said`, `kept`: see `step.compare`."""
    found = Held(model, (), ())
    samples = workload(model).samples
    for number in range(rounds):
        order = {"build": "step", "model": model, "samples": samples, "dtype": "float32"}
        with Crews([Job(name, ranks, {**order, "peer": name}) for name in (OURS, BARE)], seed=number) as crews:
            next(crews.rounds(1, STEPS))
            peaks = crews.memory
        found = Held(model, (*found.ours, peaks[OURS]), (*found.bare, peaks[BARE]))
        kept(found)
        said(f"{model}: {number + 1} of {rounds}")
    return found


def fits(model: str, ranks: int) -> str:
    """Why this machine does not hold it; nothing where it does."""
    return lacking(needed(model, ranks), free_memory())


def table(found: Sequence[Held]) -> Any:
    """A rich table, ratios first."""
    from rich.table import Table

    shown = Table(title="Peak memory / (4 x parameters + activations)", title_justify="left", box=None)
    for name in ("ours / least", "ours, MB", "bare, MB", "parameters, MB"):
        shown.add_column(name, justify="right")
    shown.add_column("model")
    for one in found:
        cells = [f"{value / 2**20:,.0f}" for value in (max(one.ours), max(one.bare), one.parameters)]
        shown.add_row(str(one.ratio), *cells, one.model)
    return shown
