"""What a study is, checked once at the edge: a base run, a grid over it, seeds, and targets fixed beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Sequence

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from hvd_adam import config_file
from hvd_adam.config import Positive, Section, Target
from hvd_adam.config_errors import first_error
from hvd_adam.errors import ConfigError

Seed = Annotated[int, Field(ge=0, lt=2**63)]  # as of a run
RULES = ("none", "sqrt", "linear", "malladi")


def _seeds(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return list(range(value))
    return value


class Budget(Section):
    """Where a run that has not reached its targets ends: exactly one of the three."""

    steps: Positive | None = None
    samples: Positive | None = None
    seconds: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_of_three(self) -> Budget:
        given = [key for key in ("steps", "samples", "seconds") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ConfigError(
                f"budget: {' and '.join(given) or 'nothing'}",
                "a run that never reaches its target must end somewhere, in one way",
                "write for instance budget: {steps: 2000}",
            )
        return self


class LearningRate(Section):
    """How lr moves with the batch: by a rule from the smallest batch of the grid, or tuned for each batch.

    rule: none; sqrt, lr x sqrt(k) for a batch k times the smallest; linear, lr x k; malladi, lr x sqrt(k) with
    1 - beta and 1 - theta x k and eps / sqrt(k) (Malladi et al. 2022).
    tune: factors of the base lr to try at each batch; the best on `tuning_seeds` seeds is run on the study's own.
    """

    rule: Literal["none", "sqrt", "linear", "malladi"] = "none"
    tune: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2)] | None = None
    tuning_seeds: Positive = 2

    @model_validator(mode="after")
    def _each_once(self) -> LearningRate:
        if self.tune is not None and len(set(self.tune)) < len(self.tune):
            raise ConfigError(f"lr.tune: {self.tune}", "a factor that stands twice is the same run", "write each once")
        return self


class TimeRatio(Section):
    """`cell` takes at most `at_most` times the seconds of `base` to the target; both are names of cells."""

    cell: str
    base: str
    at_most: float = Field(gt=0)


class Expect(Section):
    """What `study check` holds a study to."""

    slope: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    linear_up_to: Positive | None = None
    reach: float | None = Field(default=None, gt=0, le=1)
    time_ratio: TimeRatio | None = None

    @model_validator(mode="after")
    def _low_before_high(self) -> Expect:
        if self.slope is not None and self.slope[0] > self.slope[1]:
            raise ConfigError(
                f"expect.slope: {self.slope}",
                "it is [low, high], and no slope lies between these",
                f"write slope: {self.slope[::-1]}",
            )
        return self


class StudyConfig(Section):
    """One study. docs/studies.md says what each key means.

    grid: lists of values for any key of a run, with dots for what lies inside; also `global_batch`, which sets
    local_batch to global_batch / (workers x accumulation), and `ranks`.
    base: a run's config; its length, evaluations and seed are the study's to say, and are not taken from it.
    """

    name: str | None = Field(None, pattern=r"^[\w.+-]*\w[\w.+-]*$")
    base: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, list[Any]]
    seeds: Annotated[list[Seed], BeforeValidator(_seeds), Field(min_length=1)] = [0, 1, 2, 3, 4]
    targets: Annotated[list[Target], Field(min_length=1)]
    budget: Budget | None = None
    resolution: float = Field(1.1, gt=1, le=2)
    lr: LearningRate = LearningRate()
    mode: Literal["practice", "theory"] = "practice"
    horizons: Annotated[list[Positive], Field(min_length=3)] | None = None
    ranks: Positive = 1
    retries: int = Field(1, ge=0)
    max_node_hours: float | None = Field(None, gt=0)
    expect: Expect = Expect()

    @model_validator(mode="after")
    def _fits_together(self) -> StudyConfig:
        for key, values in self.grid.items():
            if not values:
                raise ConfigError(
                    f"grid.{key}: []", "a grid without values has no cells", f"list values, or drop {key}"
                )
        if not self.grid:
            raise ConfigError("grid: {}", "a study compares cells", "write for instance grid: {workers: [1, 2, 4, 8]}")
        if "seed" in self.grid:
            raise ConfigError("grid.seed", "seeds are the repetitions of a cell, not cells", "write seeds: [0, 1, 2]")
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds: {self.seeds}", "a seed that stands twice is the same run", "write each once")
        if self.mode == "theory":
            self._one_run_a_horizon()
        elif self.horizons is not None:
            raise ConfigError(
                f"horizons: {self.horizons} in practice mode",
                "there one long run is watched until it meets its target",
                "say mode: theory, or take horizons out",
            )
        elif self.budget is None:
            raise ConfigError(
                "no budget",
                "a run that never reaches its target must end somewhere",
                "write for instance budget: {steps: 2000}",
            )
        return self

    def _one_run_a_horizon(self) -> None:
        """In theory mode the schedule knows T, so T is a run's length: each horizon is a run of its own."""
        if self.horizons is None:
            raise ConfigError(
                "mode: theory without horizons",
                "the schedule knows T, so T is a run's length: one run for each horizon",
                "write for instance horizons: [100, 200, 400, 800]",
            )
        if len(set(self.horizons)) < len(self.horizons):
            raise ConfigError(
                f"horizons: {self.horizons}", "a horizon that stands twice is the same run", "list it once"
            )
        if self.budget is not None:
            raise ConfigError("budget in theory mode", "there each run is as long as its horizon", "take budget out")
        if self.lr.tune is not None:
            raise ConfigError(
                "lr.tune in theory mode",
                "there the theorem says the learning rate",
                "leave it out, or say mode: practice",
            )
        for key in ("reach", "time_ratio"):
            if getattr(self.expect, key) is not None:
                raise ConfigError(
                    f"expect.{key} in theory mode",
                    "there no run is watched until it meets its target: a run ends at its horizon",
                    "expect a slope, or linear_up_to",
                )
        if any(target.in_a_row > 1 for target in self.targets):
            raise ConfigError(
                "in_a_row in theory mode", "there the criterion is what the end of a run shows", "take in_a_row out"
            )

    def to_yaml(self) -> str:
        """The study as a file that `load` reads back."""
        return config_file.write(self.model_dump())


def load(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Reads a study file; `base` may name a run config, looked for beside the study file.

    Raises:
        ConfigError: see `config_file`, and what is refused above.
    """
    document = config_file.read(path)
    document.setdefault("name", Path(path).stem)
    for assignment in overrides:
        _override(document, assignment, Path(path).parent)
    _read_base(document, Path(path).parent)
    return from_plain(document)


def _override(document: dict[str, Any], assignment: str, folder: Path) -> None:
    """Below `base` it is an override of that run's config; what follows `grid.` is one key, with its dots."""
    keys, value = config_file.parsed(assignment)
    first, rest = keys[0], keys[1:]
    if first == "base" and rest:
        _read_base(document, folder)
        if isinstance(document["base"], dict):
            return config_file.assign(document["base"], rest, value, f"override {assignment!r}")
    if first == "grid" and rest:
        keys = [first, ".".join(rest)]
    return config_file.assign(document, keys, value, f"override {assignment!r}")


def _read_base(document: dict[str, Any], folder: Path) -> None:
    document.setdefault("base", {})
    if isinstance(document["base"], str):
        document["base"] = config_file.read(folder / document["base"])


def from_plain(document: dict[str, Any]) -> StudyConfig:
    """The StudyConfig that plain data says."""
    try:
        return StudyConfig.model_validate(document)
    except ValidationError as error:
        raise first_error(error, StudyConfig) from None
