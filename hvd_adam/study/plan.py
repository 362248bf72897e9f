"""From a study to its runs: pure, so that the same file gives the same cells and names everywhere."""

from __future__ import annotations

import copy
import difflib
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hvd_adam.config import RunConfig, from_plain
from hvd_adam.config_file import assign
from hvd_adam.errors import ConfigError
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.scaling import Refused, scaled
from hvd_adam.study.warnings import warnings

MOST_RUNS = 100_000
TUNING = "tuning"  # the folder of runs that pick a learning rate
TUNING_SEEDS = 1_000_000  # from here on, so that picks and report share no seed
NOISE_EVERY = 10  # steps between measurements of the gradient noise
POINTS = 200  # at which a run of known length measures its gradient norm
ENDLESS = 10**9  # steps of a run that its seconds end
_SIMPLE = re.compile(r"^[\w.+-]{1,24}$", re.ASCII)


@dataclass(frozen=True)
class Run:
    """One training run: its cell and seed, its config as plain data, and the ranks that carry it."""

    cell: str
    seed: int
    config: Mapping[str, Any]
    ranks: int

    @property
    def place(self) -> str:
        """Its folder, below the study's."""
        return f"{self.cell}/seed-{self.seed}"


@dataclass(frozen=True)
class Cell:
    """One point of the grid, with the length of run that its budget allows.

    Attributes:
        setting: the grid's keys and this cell's values.
        group: cells that differ only in their horizon share it.
        identity: of its config, whatever the seed.
        refused: why it is not run; empty where it is.
        tunes, factor: of a tuning cell, the cell whose lr it tries out, and the factor of lr that it tries.
    """

    name: str
    group: str
    setting: Mapping[str, Any]
    workers: int
    batch: int
    ranks: int
    steps: int
    identity: str
    refused: str = ""
    tunes: str = ""
    factor: float = 1.0
    horizon: int | None = None
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Cells in the order of the grid. `tuning` cells are run first; the cells that wait for them have no runs yet."""

    study: str
    cells: tuple[Cell, ...]
    tuning: tuple[Cell, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs that can be made now, tuning first."""
        return tuple(run for cell in (*self.tuning, *self.cells) for run in cell.runs)


def plan(study: StudyConfig, picks: Mapping[str, float] | None = None) -> Plan:
    """The cells and runs of a study.

    Args:
        picks: where lr is tuned, the factor that was best in each group of cells; those without one wait.

    Raises:
        ConfigError: a cell's config cannot be used, two cells are the same, or there is one cell only.
    """
    picks = picks or {}
    _check_size(study)
    settings = [dict(zip(study.grid, values, strict=True)) for values in itertools.product(*study.grid.values())]
    drafts = [_Draft.of(study, setting) for setting in settings]
    smallest = min(draft.batch for draft in drafts)
    cells: list[Cell] = []
    tuning: list[Cell] = []
    for draft in drafts:
        k = draft.batch / smallest
        waits = study.lr.tune is not None and draft.name not in picks
        if study.lr.tune is not None:
            tuning += [draft.tuning_cell(study, k, factor) for factor in study.lr.tune]
        cells += draft.cells(study, k, picks.get(draft.name, 1.0), () if waits else study.seeds)
    _refuse_twins(cells)
    _refuse_strangers(study, cells)
    return Plan(str(study.name), tuple(cells), tuple(tuning), tuple(warnings(study, cells, picks)))


def _check_size(study: StudyConfig) -> None:
    points = math.prod(len(values) for values in study.grid.values())
    tuning = points * len(study.lr.tune or ()) * study.lr.tuning_seeds
    runs = points * len(study.horizons or [0]) * len(study.seeds) + tuning
    if runs > MOST_RUNS:
        raise ConfigError(
            f"{points:,} points of the grid, {runs:,} runs",
            f"a study has at most {MOST_RUNS:,} runs",
            "make the grid smaller, or split it",
        )
    if points < 2:
        raise ConfigError("a grid of one point", "a study compares cells", "give grid.workers two values or more")


@dataclass(frozen=True)
class _Draft:
    """A point of the grid before its learning rate and its budget are known."""

    name: str
    setting: Mapping[str, Any]
    document: Mapping[str, Any]
    batch: int

    @classmethod
    def of(cls, study: StudyConfig, setting: Mapping[str, Any]) -> _Draft:
        name = cell_name(setting)
        document = copy.deepcopy(study.base)
        document.setdefault("determinism", "exact")
        document.setdefault("sampling", "replacement")
        for key, value in setting.items():
            if key not in ("ranks", "global_batch"):
                assign(document, key.split("."), copy.deepcopy(value), f"grid.{key}: {value}")
        parts = _count(document, "workers", 2) * _count(document, "accumulation", 1)
        if "global_batch" in setting:
            document["local_batch"] = _share(setting["global_batch"], parts, name)
        return cls(name, setting, document, parts * _count(document, "local_batch", 32))

    def cells(self, study: StudyConfig, k: float, factor: float, seeds: Iterable[int]) -> list[Cell]:
        if study.horizons is None:
            return [self._cell(study, self.name, k, factor, seeds)]
        return [self._cell(study, f"{self.name}_T-{T}", k, factor, seeds, horizon=T) for T in study.horizons]

    def tuning_cell(self, study: StudyConfig, k: float, factor: float) -> Cell:
        name = f"{TUNING}/{self.name}_lr-x{factor:g}"
        seeds = range(TUNING_SEEDS, TUNING_SEEDS + study.lr.tuning_seeds)
        return self._cell(study, name, k, factor, seeds, tunes=self.name)

    def _cell(
        self, study: StudyConfig, name: str, k: float, factor: float, seeds: Iterable[int],
        horizon: int | None = None, tunes: str = "",
    ) -> Cell:  # fmt: skip
        refused, document = "", dict(self.document)
        try:
            document = scaled(document, study.lr.rule, k, factor)
        except Refused as reason:
            refused, seeds = str(reason), ()
        document = with_budget(study, document, self.batch, horizon)
        try:
            config = from_plain({**document, "name": study.name})
        except ConfigError as error:
            raise ConfigError(f"cell {name}: {error.found}", error.why, error.cure) from None
        ranks = _ranks(study, self.setting, config, name)
        runs = tuple(Run(name, seed, {**document, "name": study.name, "seed": seed}, ranks) for seed in seeds)
        return Cell(
            name, self.name, dict(self.setting), config.workers, config.global_batch, ranks,
            config.steps or 0, config.identity(), refused, tunes, factor, horizon, runs,
        )  # fmt: skip


def with_budget(study: StudyConfig, document: dict[str, Any], batch: int, horizon: int | None) -> dict[str, Any]:
    """The run's config with the study's targets, its evaluation grid, and where it ends.

    In practice mode all cells are evaluated on one geometric grid of steps and end at their targets; in theory
    mode a run has its own length T and measures the gradient norm at `POINTS` places.
    """
    document = {key: value for key, value in document.items() if key not in ("steps", "epochs")}
    evaluate = document.get("evaluate", {})
    if not isinstance(evaluate, Mapping):
        raise ConfigError(
            f"evaluate: {evaluate}",
            "it must be a mapping, `key: value`",
            "take it out, since a study says when to evaluate, or write for instance evaluate: {test: 1000}",
        )
    chunk = {key: value for key, value in evaluate.items() if key in ("chunk", "train", "test")}
    if any(target.measure == "train_loss" for target in study.targets):
        chunk.setdefault("train", 1000)
    if document.get("workers", 2) > 1:
        document.setdefault("noise_every", NOISE_EVERY)
    if horizon is not None:
        return {**document, "steps": horizon, "evaluate": {"every": max(1, horizon // POINTS), "start": True, **chunk}}
    budget = study.budget
    assert budget is not None  # practice mode has one
    if budget.seconds is not None:
        document["max_seconds"] = budget.seconds
    steps = budget.steps or (math.ceil(budget.samples / batch) if budget.samples else ENDLESS)
    targets = [target.model_dump(exclude_none=True) for target in study.targets]
    return {
        **document,
        "steps": steps,
        "evaluate": {"geometric": study.resolution, "start": True, **chunk},
        "until": targets,
    }


def cell_name(setting: Mapping[str, Any]) -> str:
    """A folder's name for a point of the grid: the same everywhere, short, without blanks.

    >>> cell_name({"workers": 4, "algorithm.lr": 0.01})
    'workers-4_lr-0.01'
    """
    short = [key.rpartition(".")[2] for key in setting]
    keys = short if len(set(short)) == len(short) else list(setting)
    return "_".join(f"{key}-{_said(value)}" for key, value in zip(keys, setting.values(), strict=True))


def _said(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if _SIMPLE.match(text):
        return text
    name = value.get("name") if isinstance(value, dict) else None
    mark = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
    return f"{name}-{mark}" if isinstance(name, str) and _SIMPLE.match(name) else mark


def _count(document: Mapping[str, Any], key: str, default: int) -> int:
    value = document.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{key}: {value!r}", "it must be a whole number above zero", f"write for instance {key}: 4")
    return value


def _share(batch: Any, parts: int, name: str) -> int:
    if not isinstance(batch, int) or batch < 1 or batch % parts:
        raise ConfigError(
            f"cell {name}: global_batch {batch} for {parts} parts",
            "each worker takes an equal share, and that is not a whole number",
            f"make it a multiple of {parts}",
        )
    return batch // parts


def _ranks(study: StudyConfig, setting: Mapping[str, Any], config: RunConfig, name: str) -> int:
    """The grid's, or the most that divide the workers and are no more than the study's."""
    if "ranks" not in setting:
        return max(ranks for ranks in range(1, study.ranks + 1) if config.workers % ranks == 0)
    ranks = _count(setting, "ranks", 1)
    if config.workers % ranks:
        raise ConfigError(
            f"cell {name}: workers {config.workers} on {ranks} ranks",
            "each rank plays workers / ranks workers, and that is not a whole number",
            "list ranks that divide the workers",
        )
    return ranks


def _refuse_strangers(study: StudyConfig, cells: Iterable[Cell]) -> None:
    names, ratio = [cell.name for cell in cells], study.expect.time_ratio
    for name in (ratio.cell, ratio.base) if ratio is not None else ():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1) or names[:1]
            raise ConfigError(f"expect.time_ratio: {name}", "no cell of the study has this name", f"say {near[0]}")


def _refuse_twins(cells: Iterable[Cell]) -> None:
    seen: dict[str, str] = {}
    for cell in cells:
        if cell.name in seen:
            raise ConfigError(f"cell {cell.name} stands twice", "it would be the same run", "list each value once")
        key = f"{cell.identity} on {cell.ranks} ranks"
        if key in seen and not cell.refused:
            raise ConfigError(
                f"cells {seen[key]} and {cell.name} are the same", "their runs would be equal", "drop one of them"
            )
        seen[cell.name] = seen[key] = cell.name
