"""From a plan to the jobs that carry it on a cluster: values alone, so that what is shown is what is submitted.

Runs that need the same ranks and engine are packed into allocations, and the allocations of one size are the elements
of a job array. Tuning comes first, then a job that picks learning rates, then the study's own cells; at the end,
whatever came of them, a job that writes the report.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hvd_adam.errors import ConfigError
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.plan import Cell, Plan

START_SECONDS = 15.0  # of an allocation, until its ranks have imported torch and found each other; where not timed
PICK, REPORT = "pick", "report"


@dataclass(frozen=True)
class Wish:
    """How a user wants the jobs.

    Attributes:
        at_once: elements of one array that run at the same time.
        pack_seconds: runs go into one allocation until they would take longer than this.
        tasks_per_node: ranks on a node; the last node may have fewer.
        most_elements: of an array, as the cluster allows; 1 or less: it allows none, and each allocation is a job.
        options: more words for sbatch, before the script's name.
        start_seconds: of an allocation, until its first run can begin.
    """

    at_once: int = 8
    pack_seconds: float = 600.0
    tasks_per_node: int = 1
    most_elements: int = 1001
    options: tuple[str, ...] = ()
    start_seconds: float = START_SECONDS


@dataclass(frozen=True)
class Array:
    """Allocations of one size: `packs` holds for each the places of its runs, in the order in which it makes them."""

    name: str
    ranks: int
    engine: str
    packs: tuple[tuple[str, ...], ...]
    tuning: bool = False
    seconds: tuple[float | None, ...] = ()

    def nodes(self, wish: Wish) -> int:
        """Of each allocation."""
        return math.ceil(self.ranks / wish.tasks_per_node)

    def node_hours(self, wish: Wish) -> float | None:
        """At most: runs that reach their targets end sooner. None where a step's time is not known."""
        known = [seconds for seconds in self.seconds if seconds is not None]
        if len(known) < len(self.packs):
            return None
        return self.nodes(wish) * (sum(known) + wish.start_seconds * len(self.packs)) / 3600


@dataclass(frozen=True)
class Job:
    """One call of sbatch.

    Attributes:
        name: within the submission.
        options, arguments: before and after the script.
        after: names of the jobs whose end it waits for, however they end.
        first, elements: of an array, which of its packs it carries.
    """

    name: str
    options: tuple[str, ...]
    arguments: tuple[str, ...]
    after: tuple[str, ...] = ()
    array: str = ""
    first: int = 0
    elements: int = 0
    also_after: tuple[str, ...] = field(default=())

    def command(self, script: Path, ids: Mapping[str, str]) -> list[str]:
        """The words of the call.

        Args:
            ids: Slurm's numbers of the jobs that it waits for.
        """
        waits = [*(ids[name] for name in self.after), *self.also_after]
        wait = [f"--dependency=afterany:{':'.join(waits)}"] if waits else []
        return ["sbatch", "--parsable", *self.options, *wait, str(script), *self.arguments]


def parted(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The settings of the study, and the options of sbatch, each in one word where sbatch takes it so.

    >>> parted(["seeds=3", "--partition", "gpu", "-t60", "--hold", "ranks=2"])
    (('seeds=3', 'ranks=2'), ('--partition=gpu', '-t60', '--hold'))
    """
    settings: list[str] = []
    options: list[str] = []
    open_option = False  # the last word was an option that may take the next
    for word in words:
        if word.startswith("-"):
            options.append(word)
            open_option = "=" not in word
        elif open_option and "=" not in word:
            options[-1] += word if not options[-1].startswith("--") else f"={word}"
            open_option = False
        else:
            settings.append(word)
            open_option = False
    return tuple(settings), tuple(options)


def places(cell: Cell, study: StudyConfig) -> list[str]:
    """Where the runs of a cell go, also of one whose learning rate is not picked yet."""
    if cell.refused:
        return []
    return [run.place for run in cell.runs] or [f"{cell.name}/seed-{seed}" for seed in study.seeds]


def arrays(
    study: StudyConfig, made: Plan, wanted: Iterable[str], seconds: Mapping[str, float | None], wish: Wish
) -> list[Array]:
    """The arrays of the wanted runs, tuning first, then by size.

    Args:
        wanted: places of runs.
        seconds: of one run of each cell, at most, by the cell's name; None where it is not known.
    """
    asked = set(wanted)
    kinds: dict[tuple[bool, int, str], list[tuple[str, float | None]]] = {}
    for tuning, cells in ((True, made.tuning), (False, made.cells)):
        for cell in cells:
            engine = str(cell.runs[0].config.get("engine") or "") if cell.runs else str(study.base.get("engine") or "")
            mine = [(place, seconds.get(cell.name)) for place in places(cell, study) if place in asked]
            if mine:
                kinds.setdefault((not tuning, cell.ranks, engine), []).extend(mine)
    found = []
    for (late, ranks, engine), runs in sorted(kinds.items()):
        name = "-".join(part for part in ("" if late else "tuning", f"{ranks}-rank{'s' * (ranks > 1)}", engine) if part)
        packs = _packed(runs, wish.pack_seconds)
        totals = tuple(_total(seconds for _, seconds in pack) for pack in packs)
        found.append(Array(name, ranks, engine, tuple(tuple(place for place, _ in p) for p in packs), not late, totals))
    return found


def _packed(runs: Sequence[tuple[str, float | None]], most: float) -> list[list[tuple[str, float | None]]]:
    """Runs in their order, side by side as long as a pack stays below `most`; one of unknown length is alone."""
    packs: list[list[tuple[str, float | None]]] = []
    for run in runs:
        before = _total(seconds for _, seconds in packs[-1]) if packs else None
        if before is None or run[1] is None or before + run[1] > most:
            packs.append([run])
        else:
            packs[-1].append(run)
    return packs


def _total(seconds: Iterable[float | None]) -> float | None:
    total = 0.0
    for one in seconds:
        if one is None:
            return None
        total += one
    return total


def jobs(
    study: StudyConfig,
    found: Sequence[Array],
    folder: Path,
    number: int,
    wish: Wish,
    waiting: bool,
    running: Sequence[str] = (),
) -> list[Job]:
    """The calls of sbatch, in order.

    Args:
        folder: the study's, whole.
        number: of this submission.
        waiting: whether cells among these wait for a learning rate.
        running: Slurm's numbers of earlier jobs of this study that have not ended; picks and report wait for them too.
    """
    made: list[Job] = []
    for array in found:
        if array.tuning:
            made += _split(study, array, folder, number, wish, ())
    if waiting:
        tuned = tuple(job.name for job in made)
        made.append(_single(study, PICK, folder, number, wish, tuned, running))
    for array in found:
        if not array.tuning:
            made += _split(study, array, folder, number, wish, (PICK,) if waiting else ())
    ends = tuple(job.name for job in made)
    return [*made, _single(study, REPORT, folder, number, wish, ends, running)]


def _split(
    study: StudyConfig, array: Array, folder: Path, number: int, wish: Wish, after: tuple[str, ...]
) -> list[Job]:
    """An array, in as many parts as it takes to respect MaxArraySize; where that allows none, a job for each pack."""
    size = max(1, wish.most_elements)
    shape = (
        f"--nodes={array.nodes(wish)}",
        f"--ntasks={array.ranks}",
        f"--ntasks-per-node={min(array.ranks, wish.tasks_per_node)}",
    )
    made = []
    for first in range(0, len(array.packs), size):
        elements = min(size, len(array.packs) - first)
        name = array.name if size >= len(array.packs) else f"{array.name}-from-{first}"
        index = (f"--array=0-{elements - 1}%{wish.at_once}",) if size > 1 else ()
        options = (*_named(study, name, folder, number, bool(index)), *index, *shape, *wish.options)
        words = ("make", str(folder), str(number), array.name, str(first))
        made.append(Job(name, options, words, after, array.name, first, elements))
    return made


def _single(
    study: StudyConfig, name: str, folder: Path, number: int, wish: Wish, after: tuple[str, ...], also: Sequence[str]
) -> Job:
    shape = ("--nodes=1", "--ntasks=1", "--ntasks-per-node=1")
    kept = tuple(option for option in wish.options if not option.startswith("--gpus"))
    options = (*_named(study, name, folder, number, False), *shape, *kept)
    return Job(name, options, (name, str(folder), str(number)), after, also_after=tuple(also))


def _named(study: StudyConfig, name: str, folder: Path, number: int, array: bool) -> tuple[str, ...]:
    log = str(folder / "submissions" / str(number) / "log").replace("%", "%%").replace("\\", "\\\\")
    return f"--job-name={study.name}-{name}", f"--output={log}/%x-{'%A_%a' if array else '%j'}.out"


def line(words: Sequence[str]) -> str:
    """A call as one would type it."""
    return shlex.join(words)


def refuse_over_nodes(found: Sequence[Array], wish: Wish, partition: str, nodes: int) -> None:
    """Raises ConfigError where an allocation wants more nodes than there are: Slurm may take it, and never start it."""
    largest = max(found, key=lambda array: array.nodes(wish))
    if largest.nodes(wish) > nodes:
        raise ConfigError(
            f"{largest.nodes(wish)} nodes for {largest.ranks} ranks",
            f"partition {partition} has {nodes}, so Slurm would let the job wait for ever (PartitionNodeLimit)",
            f"put more ranks on each: --tasks-per-node {math.ceil(largest.ranks / nodes)}; or name another partition",
        )
