"""From records to everything that a report says: frozen values, which pages and sentences only write down."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hvd_adam.config import Target
from hvd_adam.errors import HvdAdamError
from hvd_adam.study.collect import CENSORED, DIVERGED, REACHED, Record, collect
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.folder import Folder
from hvd_adam.study.goodness import Goodness, goodness
from hvd_adam.study.horizons import HorizonSeries, horizon_series
from hvd_adam.study.hyperbola import Hyperbola, hyperbola
from hvd_adam.study.hyperbola_of_picks import hyperbola_with_picks
from hvd_adam.study.linearity import Linear, ideal, linearity
from hvd_adam.study.pace import Pace, pace
from hvd_adam.study.passage import Passage
from hvd_adam.study.picks import Picks, linearity_with_picks, picks, slope_with_picks, spreads
from hvd_adam.study.plan import Cell, Plan, plan
from hvd_adam.study.reach import Reach, reach
from hvd_adam.study.regions import Regions, regions
from hvd_adam.study.slope import Stretch, slope, stretches
from hvd_adam.study.survival import Curve, curve
from hvd_adam.theory.elbow import Range, elbow
from hvd_adam.theory.noise import NoiseScale, noise_scale

SCALE_KEYS = frozenset({"workers", "local_batch", "global_batch", "accumulation", "ranks"})
USED = (REACHED, CENSORED, DIVERGED)
PHASES = ("data", "forward", "backward", "wait", "step")


@dataclass(frozen=True)
class CellResult:
    """One cell: its runs, and what they say of the target.

    Attributes:
        records: one for each seed, whatever became of it.
        passages: of the runs that say something.
        reach: shares and typical steps; None where no run says anything.
        curve: share of runs that have not met the target, against steps.
        lower_bound: where no run reached: the fewest steps after which one, not diverged, had not met the target.
        noise: the gradient noise scale over the second half of its runs; None where it was not measured.
    """

    cell: Cell
    records: tuple[Record, ...]
    passages: tuple[Passage, ...]
    reach: Reach | None
    curve: Curve | None
    lower_bound: float | None
    noise: NoiseScale | None

    @property
    def outcomes(self) -> Counter[str]:
        """Runs by outcome."""
        return Counter(record.outcome for record in self.records)

    @property
    def step_seconds(self) -> dict[str, tuple[float, ...]]:
        """Seconds a step by phase, one value for each run that has any."""
        found = [record.step_seconds for record in self.records if record.step_seconds]
        return {phase: tuple(one.get(phase, 0.0) for one in found) for phase in PHASES} if found else {}


@dataclass(frozen=True)
class Series:
    """Cells that differ in their scale alone: workers, local batch, global batch, ranks.

    Attributes:
        label: what they share and other series do not; empty where there is one series.
        axis: "batch"; "workers" where all cells have one batch: the negative control.
        linear: slope, tests and range; None where it cannot be had, and `why_not` says why.
        ideal: samples that the pooled start of the linear range needs: the ideal line is ideal / batch.
        line: the slope of a straight line, where free cell means leave the slope open.
        after: slope over the cells from the end of the linear range on; None where there are not two.
        goodness: whether the noise of log T is as the model takes it to be; None where nothing was fitted.
        tuned: whether learning rates were picked for each batch; `picks` is what that adds to log T, by cell, None
            where it is not known: what rests on picks is then conditional on them.
        pace: what the clock says.
    """

    label: str
    axis: str
    cells: tuple[CellResult, ...]
    linear: Linear | None = None
    stretches: tuple[Stretch, ...] = ()
    ideal: Estimate | None = None
    after: Estimate | None = None
    line: Estimate | None = None
    hyperbola: Hyperbola | None = None
    goodness: Goodness | None = None
    tuned: bool = False
    picks: Mapping[str, float] | None = None
    pace: Pace | None = None
    why_not: str = ""

    @property
    def passages(self) -> tuple[Passage, ...]:
        """Of all cells, `batch` being the position on the axis."""
        return tuple(on_axis(passage, self.axis) for cell in self.cells for passage in cell.passages)

    def position(self, cell: Cell) -> int:
        """Where a cell lies on the axis."""
        return cell.batch if self.axis == "batch" else cell.workers

    @property
    def noise(self) -> CellResult | None:
        """The cell that knows the noise scale best: the narrowest interval on a log scale."""
        known = [cell for cell in self.cells if cell.noise and cell.noise.scale.low > 0]
        return min(known, key=lambda cell: _width(cell.noise), default=None)

    @property
    def predicted(self) -> Range | None:
        """Where T(s) = 2 T(infinity) is expected, in samples."""
        best = self.noise
        return elbow(best.noise.scale) if best and best.noise else None

    @property
    def regions(self) -> Regions | None:
        """Perfect scaling, diminishing returns and maximal parallelism; None where no hyperbola is reported."""
        batches = [cell.cell.batch for cell in self.cells]
        return regions(self.hyperbola, (min(batches), max(batches)))

    @property
    def reached(self) -> int:
        """Runs that reached the target."""
        return sum(passage.reached for cell in self.cells for passage in cell.passages)


@dataclass(frozen=True)
class Analysis:
    """A whole study.

    Attributes:
        series: for the study's first target; empty in theory mode.
        horizons: in theory mode, for the first target.
        others: for each further target, its series.
        strangers: run directories in the folder that the study does not plan.
    """

    study: StudyConfig
    place: str
    plan: Plan
    target: Target
    series: tuple[Series, ...]
    others: tuple[tuple[Target, tuple[Series, ...]], ...]
    picks: tuple[Picks, ...]
    records: tuple[Record, ...]
    strangers: tuple[str, ...]
    horizons: tuple[HorizonSeries, ...] = ()

    @property
    def outcomes(self) -> Counter[str]:
        """Runs by outcome, those that pick learning rates left out."""
        return Counter(record.outcome for record in self.records if not record.cell.tunes)

    @property
    def cells(self) -> tuple[CellResult, ...]:
        """Of all series."""
        return tuple(cell for one in self.series for cell in one.cells)


def analyse(folder: Folder) -> Analysis:
    """Reads a study's folder and works out all that there is to say.

    Raises:
        ConfigError: the folder holds no study.
    """
    study = folder.study()
    picked = folder.picks()
    made = plan(study, picked)
    records = tuple(collect(study, made, folder, len(os.sched_getaffinity(0))))
    first, *others = study.targets
    tuned = picks(records, first, picked)
    theory = study.mode == "theory"
    return Analysis(
        study,
        str(folder.path),
        made,
        first,
        () if theory else all_series(records, first, tuned),
        () if theory else tuple((target, all_series(records, target, tuned)) for target in others),
        tuned,
        records,
        folder.strangers(made.runs),
        tuple(horizon_series(label, runs, first) for label, runs in _alike(records).items()) if theory else (),
    )


def all_series(records: Sequence[Record], target: Target, tuned: Sequence[Picks] = ()) -> tuple[Series, ...]:
    """The series of a study, in the order of its grid."""
    return tuple(_series(label, runs, target, tuned) for label, runs in _alike(records).items())


def labels(cells: Sequence[Cell]) -> dict[str, str]:
    """The label of each cell's series, by the cell's name: what it shares with its series and with no other.

    A setting of many keys goes by its `name`, and is written out where another series has the same.
    """
    kept = {cell.name: {key: value for key, value in cell.setting.items() if key not in SCALE_KEYS} for cell in cells}
    meant: dict[str, set[str]] = {}
    for setting in kept.values():
        meant.setdefault(_label(setting), set()).add(json.dumps(setting, sort_keys=True, default=str))
    return {
        name: short if len(meant[short := _label(setting)]) == 1 else _label(setting, whole=True)
        for name, setting in kept.items()
    }


def _label(setting: Mapping[str, Any], whole: bool = False) -> str:
    return ", ".join(f"{key} {_said(value, whole)}" for key, value in setting.items())


def _alike(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Runs whose cells differ in their scale alone, by what they share; those that pick learning rates left out."""
    grouped: dict[str, list[Record]] = {}
    own = [record for record in records if not record.cell.tunes]
    label = labels([record.cell for record in own])
    for record in own:
        grouped.setdefault(label[record.cell.name], []).append(record)
    return grouped


def on_axis(passage: Passage, axis: str) -> Passage:
    """The passage with its place on the axis as batch."""
    return passage if axis == "batch" else replace(passage, batch=passage.workers)


def _series(label: str, records: Sequence[Record], target: Target, tuned: Sequence[Picks]) -> Series:
    by_cell: dict[str, list[Record]] = {}
    for record in records:
        by_cell.setdefault(record.cell.name, []).append(record)
    batches = {record.cell.batch for record in records}
    workers = {record.cell.workers for record in records}
    axis = "workers" if len(batches) == 1 and len(workers) > 1 else "batch"
    passages = {name: [p for r in runs if (p := r.passage(target)) is not None] for name, runs in by_cell.items()}
    everything = [passage for runs in passages.values() for passage in runs]
    reached = {one.cell.name: one for one in reach(everything)} if everything else {}
    results = [_cell(runs, passages[name], reached.get(runs[0].cell.group)) for name, runs in by_cell.items()]
    results.sort(key=lambda one: (one.cell.batch, one.cell.workers))
    timed = [record for record in records if record.outcome in USED]
    bare = Series(label, axis, tuple(results), pace=pace([one.cell for one in results], timed, everything))
    try:
        return _fitted(bare, tuned)
    except HvdAdamError as error:
        return replace(bare, why_not=f"{error.found}: {error.why}")


def _fitted(bare: Series, tuned: Sequence[Picks]) -> Series:
    passages = bare.passages
    added = spreads(tuned, passages) if tuned else None
    linear = linearity_with_picks(passages, added) if tuned else linearity(passages)
    end = linear.up_to.estimate
    late = [passage for passage in passages if passage.batch >= end]
    after = None
    if len({passage.batch for passage in late}) > 1:
        after = slope_with_picks(late, added) if tuned else slope(late)
    curve = None
    if bare.axis == "batch":
        curve = hyperbola_with_picks(passages, added) if tuned else hyperbola(passages)
    return replace(
        bare,
        linear=linear,
        line=slope(passages, shape="line") if linear.slope.open else None,
        stretches=tuple(stretches(passages)),
        ideal=ideal(passages),
        after=after,
        hyperbola=curve,
        goodness=goodness(passages),
        tuned=bool(tuned),
        picks=added,
    )


def _cell(records: Sequence[Record], passages: Sequence[Passage], reached: Reach | None) -> CellResult:
    bounds = [passage.low for passage in passages if not passage.diverged]
    none = bool(bounds) and not any(passage.reached for passage in passages)
    return CellResult(
        records[0].cell,
        tuple(records),
        tuple(passages),
        reached,
        curve(passages) if passages else None,
        min(bounds) if none else None,
        _noise(records),
    )


def _noise(records: Sequence[Record]) -> NoiseScale | None:
    """Over the second half of each run, one seed after the other: a join counts as spread, never as certainty."""
    cell = records[0].cell
    halves = [record.noise[len(record.noise) // 2 :] for record in records if record.outcome in (REACHED, CENSORED)]
    pairs = np.concatenate(halves) if halves else np.empty((0, 2))
    if cell.workers < 2 or not len(pairs):
        return None
    local, first = cell.batch // cell.workers, records[0]
    epochs = first.run.config.get("sampling") == "epochs"
    size = next((int(record.facts["train_size"]) for record in records if record.facts.get("train_size")), 0)
    try:
        return noise_scale(
            pairs[:, 0], pairs[:, 1], local_batch=local, workers=cell.workers, shared_out=size if epochs else 0
        )
    except HvdAdamError:
        return None


def _width(noise: NoiseScale | None) -> float:
    assert noise is not None
    return noise.scale.high / noise.scale.low


def _said(value: object, whole: bool) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    name, more = value.get("name"), ", ".join(f"{key} {one}" for key, one in value.items() if key != "name")
    return str(name or more) if not (whole and name and more) else f"{name} ({more})"


__all__ = ["CENSORED", "DIVERGED", "REACHED", "Analysis", "CellResult", "Picks", "Series", "analyse"]
