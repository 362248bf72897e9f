"""What a study should know about itself before it runs: said in the plan, in the status and in the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from hvd_adam.config import RunConfig, from_plain
from hvd_adam.errors import ConfigError
from hvd_adam.study.config import StudyConfig
from hvd_adam.tasks.registry import measures_of

if TYPE_CHECKING:
    from hvd_adam.study.plan import Cell

TRAIN_SIZES = {"digits": 1438, "mnist": 60_000, "fashion-mnist": 60_000, "cifar10": 50_000, "cifar100": 50_000}
LARGEST_SHARE = 0.1  # of the training data in one batch, above which its samples are far from independent


def warnings(study: StudyConfig, cells: Sequence[Cell], picks: Mapping[str, float]) -> Iterable[str]:
    """One sentence each; nothing here stops a study.

    Raises:
        ConfigError: a target on a measure that one of our tasks does not have. Other tasks tell in their first run.
    """
    example = _first_config(cells)
    if example is not None:
        _check_measures(study, example)
    yield from (f"{cell.name} is not run: {cell.refused}" for cell in cells if cell.refused)
    if study.base.get("sampling") == "epochs":
        yield "sampling: epochs draws without replacement, and the theory's samples are independent"
    share = (study.base.get("evaluate") or {}).get("test")
    if share:
        yield f"evaluate.test: test measures are those of the first {share:,} test samples alone"
    if len(study.seeds) == 1:
        yield "one seed a cell: a single run has no spread, and no interval can be given"
    if example is not None:
        yield from _mode(study, example)
        size = TRAIN_SIZES.get(example.task.name)
        large = large_batches(cells, size) if size else ""
        if large:
            yield large
    yield from edges(study, picks)


def large_batches(cells: Iterable[Cell], train_size: int) -> str:
    """Which batches are above `LARGEST_SHARE` of the training data; empty where none is, or the data is endless."""
    found = sorted({cell.batch for cell in cells if train_size and cell.batch > LARGEST_SHARE * train_size})
    listed = ", ".join(f"{batch:,}" for batch in found)
    return f"batch {listed} is more than a tenth of the {train_size:,} training samples" if found else ""


def edges(study: StudyConfig, picks: Mapping[str, float]) -> Iterable[str]:
    """Cells whose best learning rate lies on the edge of those that were tried."""
    tried = study.lr.tune or [0.0]
    for name, pick in picks.items():
        if study.lr.tune and pick in (min(tried), max(tried)):
            side, more = ("smallest", "smaller") if pick == min(tried) else ("largest", "larger")
            yield f"{name}: the best lr, x {pick:g}, is the {side} that was tried; {more} ones may be better"


def _mode(study: StudyConfig, example: RunConfig) -> Iterable[str]:
    member = example.member()
    bound = any(schedule.needs_horizon for schedule in (member.alpha, member.beta, member.theta))
    if study.mode == "practice" and bound:
        yield (
            f"{member.name}'s schedule knows T, here the budget: a target met early says nothing of a shorter run; "
            "mode: theory makes one run a horizon"
        )
    if study.mode == "theory" and not bound:
        yield f"the schedule of {member.name} does not know T: one long run, mode: practice, would do"
    for target in study.targets:
        if study.mode == "theory" and target.measure != "mean_gradient_norm":
            yield f"{target}: Theorem 17 bounds the running mean of the gradient norm, mean_gradient_norm"


def _first_config(cells: Sequence[Cell]) -> RunConfig | None:
    return next((from_plain(dict(cell.runs[0].config)) for cell in cells if cell.runs), None)


def _check_measures(study: StudyConfig, example: RunConfig) -> None:
    name = example.task.name
    known = measures_of(name)
    for target in study.targets:
        if known and target.measure not in known:
            raise ConfigError(
                f"target {target}", f"{name} has no such measure, so it would never be reached",
                f"choose one of {', '.join(known)}",
            )  # fmt: skip
