"""What a run is, checked once at the edge: a YAML file and overrides become one frozen `RunConfig`.

Reading a config imports no torch. What only the data can tell (the length of an epoch, and with it
the domain of a schedule that knows T) is checked by `training.preparation`.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Mapping, Sequence, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hvd_adam import algorithms, config_file
from hvd_adam.algorithms import ONE_OVER_SD, Algorithm
from hvd_adam.config_errors import first_error
from hvd_adam.errors import ConfigError
from hvd_adam.schedules import Constant, Schedule, as_schedule, check_training_domain
from hvd_adam.tasks import registry

# Facts of the launch: what a checkpoint may continue does not depend on them, nor does the trajectory: to rounding, as
# on the number of ranks, and by no bit with `determinism: exact`.
LAUNCH_KEYS = frozenset(
    {"name", "engine", "threads", "max_seconds", "stall_limit", "bucket_mb", "check_every", "noise_every"}
    | {"share_weights", "checkpoint", "data", "stage", "condition"}
)


def _schedule(value: Any) -> Any:
    as_schedule(value)
    return value


def _start_of_v(value: Any) -> Any:
    if value == ONE_OVER_SD or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise ConfigError(f"optimizer.v0: {value}", "v starts at a number >= 0, or 1/(s d)", 'for instance v0: "1/(s d)"')


def _by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Section(BaseModel):
    """A mapping in the config: unknown keys, wrong types, nan and inf are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Choice(Section):
    """A name with its own options beside it; which ones it takes, its registry knows."""

    model_config = ConfigDict(extra="allow")
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """All but the name."""
        return dict(self.model_extra or {})


ScheduleValue = Annotated[Any, AfterValidator(_schedule)]
Named = Annotated[Choice, BeforeValidator(_by_name)]
Positive = Annotated[int, Field(ge=1)]


class OptimizerSection(Section):
    """GenericAdam's arguments one by one: a member without a name."""

    lr: ScheduleValue = 1e-3
    betas: Annotated[list[ScheduleValue], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: float = Field(1e-8, ge=0)
    eps_in: Literal["denominator", "v0"] = "denominator"
    v0: Annotated[Any, AfterValidator(_start_of_v)] = 0.0
    bias_correction: bool = True
    weight_decay: float = Field(0.0, ge=0)
    decoupled_weight_decay: bool = False
    amsgrad: bool = False


class NonfiniteSection(Section):
    """stop_after: steps in a row whose gradient is not finite, after which the run gives up."""

    stop_after: Positive = 10


class Target(Section):
    """A measure and the value that it has to reach, `in_a_row` evaluations one after the other.

    Measures are the task's own (loss, accuracy, objective, gradient_norm, all on the test data) and what
    training.evaluation makes of them: error, train_loss, mean_gradient_norm.
    """

    measure: str = Field(min_length=1)
    at_most: float | None = None
    at_least: float | None = None
    in_a_row: Positive = 1

    @model_validator(mode="after")
    def _one_bound(self) -> Target:
        if (self.at_most is None) == (self.at_least is None):
            raise ConfigError(f"target {self.measure}", "it needs at_most or at_least, and not both", "write one")
        return self

    def __str__(self) -> str:
        bound = f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"
        return f"{self.measure} {bound}" + (f", {self.in_a_row} times in a row" if self.in_a_row > 1 else "")

    def met_by(self, measures: Mapping[str, float]) -> bool:
        """Whether these measures meet it; nan never does, nor does a measure that is not there."""
        value = measures.get(self.measure, math.nan)
        return value <= self.at_most if self.at_most is not None else value >= cast(float, self.at_least)

    def first_passage(self, evaluations: Sequence[tuple[int, Mapping[str, float]]]) -> tuple[int, int] | None:
        """(last step at which it was not met, first at which it was), or None: not reached.

        Args:
            evaluations: (step, measures), steps increasing.

        With nothing evaluated before, the first entry is 0; both are 0 where it is met at step 0.
        """
        since, before, streak = 0, 0, 0
        for step, measures in evaluations:
            if not self.met_by(measures):
                before, streak = step, 0
                continue
            since = step if streak == 0 else since
            streak += 1
            if streak == self.in_a_row:
                return before, since
        return None

    def not_met_until(self, evaluations: Sequence[tuple[int, Mapping[str, float]]]) -> int:
        """The last step at which it was not met, 0 where there is none: what a run that did not reach it still tells.

        A run that ends within a streak shorter than `in_a_row` may have reached it at the streak's begin.
        """
        return max((step for step, measures in evaluations if not self.met_by(measures)), default=0)


class EvaluateSection(Section):
    """When to evaluate; the last step always is. chunk: samples evaluated at once.

    train: so many training samples, the same at each evaluation, are measured too, as train_loss.
    test: the first so many test samples stand for all of them; None measures every one.
    """

    every: Positive | None = None
    at: list[Annotated[int, Field(ge=0)]] | None = None
    geometric: float | None = Field(default=None, gt=1)
    start: bool = False
    chunk: Positive = 250
    train: Positive | None = None
    test: Positive | None = None

    def steps(self, last: int) -> list[int]:
        """The steps 0 <= t <= last to evaluate at, in order; `last` is one of them."""
        found = {last} | ({0} if self.start else set())
        if self.every:
            found.update(range(self.every, last + 1, self.every))
        found.update(t for t in self.at or () if t <= last)
        if self.geometric:
            t = 1
            while t <= last:
                found.add(t)
                t = max(t + 1, math.ceil(t * self.geometric))
        return sorted(found)

    @model_validator(mode="after")
    def _one_of_three(self) -> EvaluateSection:
        given = [key for key in ("every", "at", "geometric") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ConfigError(" and ".join(given), "each says when to evaluate", f"keep {given[0]} alone")
        return self


class CheckpointSection(Section):
    """every: steps between checkpoints; null writes one at the end, and when the run is stopped."""

    every: Positive | None = None


class RunConfig(Section):
    """One run. docs/config.md says what each key means."""

    name: str | None = Field(None, pattern=r"^[\w.+-]*\w[\w.+-]*$")
    task: Named = Choice(name="digits")
    algorithm: Named | None = None
    optimizer: OptimizerSection | None = None
    workers: Positive = 2
    local_batch: Positive = 32
    accumulation: Positive = 1
    steps: Positive | None = None
    epochs: Positive | None = None
    sampling: Literal["epochs", "replacement"] = "epochs"
    seed: int = Field(0, ge=0, lt=2**63)
    precision: Literal["float32", "float64", "bf16"] = "float32"
    determinism: Literal["default", "exact"] = "default"
    clip_norm: float | None = Field(None, gt=0)
    wire: Literal["fp16"] | None = None
    skip_nonfinite: NonfiniteSection = NonfiniteSection()
    evaluate: EvaluateSection = EvaluateSection()
    until: list[Target] = []
    checkpoint: CheckpointSection = CheckpointSection()
    check_every: int = Field(0, ge=0)
    noise_every: int = Field(0, ge=0)
    engine: Literal["horovod", "mpi", "solo"] | None = None
    threads: int | None = Field(None, ge=1, le=65_536)
    max_seconds: float | None = Field(None, gt=0)
    stall_limit: float | None = Field(300.0, gt=0, le=1e8)
    bucket_mb: float = Field(4.0, gt=0)
    share_weights: bool = True
    data: str | None = None
    stage: str | None = None
    condition: Literal["off", "warn", "require"] = "warn"

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = dict(given)
        if given.get("steps") is None and given.get("epochs") is None:
            given["steps"] = 300
        if given.get("algorithm") is None and given.get("optimizer") is None:
            given["algorithm"] = {"name": "adam"}
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        for one, other in (("steps", "epochs"), ("algorithm", "optimizer")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ConfigError(f"{one} and {other}", "each says the same in its own way", f"take {other} out")
        if self.wire and self.determinism == "exact":
            raise ConfigError("wire: fp16 with determinism: exact", "sums in fp16 depend on order", "leave one out")
        if not self.evaluate.train and any(target.measure == "train_loss" for target in self.until):
            raise ConfigError(
                "a target on train_loss", "it is measured only where evaluate.train says on how many samples",
                "set evaluate.train: 1000",
            )  # fmt: skip
        registry.address(self.task.name)
        check_schedules(algorithm_of(self), self.steps)
        return self

    @property
    def global_batch(self) -> int:
        """Samples of a step: every worker makes `accumulation` passes over `local_batch` samples each."""
        return self.workers * self.local_batch * self.accumulation

    def member(self) -> Algorithm:
        """The schedules and conventions of this run."""
        return algorithm_of(self)

    def identity(self) -> str:
        """A hash of all that makes this run itself: facts of the launch are left out. 16 hexadecimal digits."""
        return fingerprint(self)

    def to_yaml(self) -> str:
        """The resolved config as a file that `load` reads back."""
        return config_file.write(to_plain(self))


def load(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a config file, sets `key=value` overrides, and checks the whole.

    Raises:
        ConfigError: see `config_file`; an unknown key (the nearest known one is named), a value of the
            wrong type or out of its range, an unknown task, algorithm or argument, a schedule that leaves
            the domain that training needs.
    """
    document = config_file.read(path)
    document.setdefault("name", Path(path).stem)
    for assignment in overrides:
        config_file.override(document, assignment)
    return from_plain(document)


def from_plain(document: dict[str, Any]) -> RunConfig:
    """The RunConfig that plain data says; the inverse of `to_plain`."""
    try:
        return RunConfig.model_validate(document)
    except ValidationError as error:
        raise first_error(error, RunConfig) from None


def to_plain(config: RunConfig) -> dict[str, Any]:
    """Plain data, every key resolved; alternatives that were not taken are left out."""
    plain = config.model_dump()
    absent = [key for key in ("steps", "epochs", "algorithm", "optimizer") if plain[key] is None]
    return {key: value for key, value in plain.items() if key not in absent}


def flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same with dotted keys: {"evaluate.every": 50, ...}."""
    found: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, dict) and value:
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def identity(config: RunConfig) -> dict[str, Any]:
    """What makes this run itself: everything but the facts of the launch, with dotted keys."""
    found = flat({key: value for key, value in to_plain(config).items() if key not in LAUNCH_KEYS})
    if found["evaluate.test"] is None:  # a run that measures every test sample is the one it was before it could choose
        del found["evaluate.test"]
    return found


def fingerprint(config: RunConfig) -> str:
    """A hash of `identity`, 16 hexadecimal digits."""
    text = json.dumps(identity(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def algorithm_of(config: RunConfig) -> Algorithm:
    """The member of the family that the config names, or that its optimizer section spells out."""
    if config.algorithm is not None:
        options = config.algorithm.options
        algorithms.check_arguments(config.algorithm.name, options)
        return algorithms.named(config.algorithm.name, **options)
    section = config.optimizer
    assert section is not None
    beta, theta = section.betas
    return Algorithm(
        "generic",
        as_schedule(section.lr),
        as_schedule(beta),
        as_schedule(theta),
        ONE_OVER_SD if isinstance(section.v0, str) else section.v0,
        section.eps,
        section.eps_in,
        section.bias_correction,
        section.weight_decay,
        section.decoupled_weight_decay,
        section.amsgrad,
    )


def check_schedules(algorithm: Algorithm, steps: int | None) -> None:
    """Checks alpha_t, beta_t, theta_t: constants at once, schedules where the run's length is known.

    Raises:
        ConfigError: a constant out of its range, or the first t at which a schedule is.
    """
    for role, label in (("alpha", "lr"), ("beta", "beta1"), ("theta", "beta2")):
        schedule: Schedule = getattr(algorithm, role)
        if isinstance(schedule, Constant):
            _check_constant(role, label, schedule.value)
        elif steps is not None:
            check_training_domain(schedule.with_horizon(steps), role, steps)
    for name in ("eps", "v0", "weight_decay"):
        value = getattr(algorithm, name)
        if not isinstance(value, str) and not 0 <= value < float("inf"):
            raise ConfigError(f"{name}: {value}", "it must be finite and >= 0", f"set {name}: 0 to do without")


def _check_constant(role: str, label: str, value: float) -> None:
    if role == "alpha" and not 0 <= value < float("inf"):
        raise ConfigError(f"{label}: {value:g}", "a learning rate is finite and >= 0", f"{label}: 0.001 is usual")
    if role == "beta" and not 0 <= value < 1:
        raise ConfigError(f"{label}: {value:g}", "beta must lie in [0, 1)", f"{label}: 0.9 is usual; 0 gives RMSProp")
    if role == "theta" and not 0 < value < 1:
        raise ConfigError(f"{label}: {value:g}", "a constant theta must lie in (0, 1)", f"{label}: 0.999 is usual")
