"""Schedules: frozen values t -> float, t = 1, 2, ..., vectorised over numpy arrays.

The one vocabulary that every part shares: the checker judges them, the optimizer follows them, the
trace records them. Each is a frozen dataclass: picklable, comparable, hashable, and it says itself as
plain YAML data (`to_plain`, `schedule_from_plain`). Notation: alpha_t learning rate, beta_t torch's
beta1, theta_t torch's beta2 (Chen et al., JMLR 23(229), 2022).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Callable, ClassVar, NoReturn, Sequence

import numpy as np

from hvd_adam.errors import ConfigError
from hvd_adam.running_products import log_running_product

_KINDS: dict[str, type[Schedule]] = {}


class _Cast(type):
    """`type(s)(s)` is s, as with numbers: Horovod re-casts an optimizer's options by their types."""

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        if len(arguments) == 1 and not named and type(arguments[0]) is cls:
            return arguments[0]
        return super().__call__(*arguments, **named)


class Schedule(metaclass=_Cast):
    """Base of all schedules: arguments are checked and made plain Python numbers on the way in.

    >>> Power(0.1, 0.5)(4)
    0.05
    >>> str(Power(0.1, 0.5))
    '0.1/sqrt(t)'
    """

    __slots__ = ()
    kind: ClassVar[str]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in cls.__dict__:
            _KINDS[cls.kind] = cls

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = _argument(self.kind, field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)

    def __call__(self, t: Any) -> Any:
        """The value at step t >= 1: a float for a number, a float64 array for an array.

        Raises:
            ConfigError: the schedule depends on the horizon T, and none is bound.
        """
        return self._at(t, self._values)

    def complement(self, t: Any) -> Any:
        """1 - schedule(t), without the cancellation that a theta_t close to 1 would suffer."""
        return self._at(t, self._complements)

    def _at(self, t: Any, function: Callable[[np.ndarray], Any]) -> Any:
        if self.needs_horizon:
            raise ConfigError(
                f"the schedule {self}", "it depends on the horizon T, which is not known", "use with_horizon(T)"
            )
        steps = np.asarray(t, dtype=np.float64)
        with np.errstate(all="ignore"):
            values = np.broadcast_to(function(steps), steps.shape)
        return float(values) if values.ndim == 0 else np.array(values, dtype=np.float64)

    def _values(self, t: np.ndarray) -> Any:
        raise NotImplementedError

    def _complements(self, t: np.ndarray) -> Any:
        return 1.0 - self._values(t)

    @property
    def parts(self) -> tuple[Schedule, ...]:
        """The schedules that this one is made of."""
        return ()

    @property
    def needs_horizon(self) -> bool:
        """True where T is not bound yet."""
        return any(part.needs_horizon for part in self.parts)

    def with_horizon(self, horizon: int) -> Schedule:
        """The same schedule for a run of T = `horizon` steps; itself where T does not matter."""
        return self

    def to_plain(self) -> Any:
        """Plain YAML data that `schedule_from_plain` reads back to an equal value."""
        fields = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {self.kind: fields}


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.to_plain()
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _number(value: float) -> str:
    """A number as the grammar reads it back: the shortest that gives the same float."""
    text = repr(value).removesuffix(".0")
    return f"({text})" if text.startswith("-") else text


def _power(base: str, exponent: float) -> str:
    special = {1.0: base, 0.5: f"sqrt({base})"}
    return special.get(exponent, f"{base}^{_number(exponent)}")


def _bracketed(schedule: Schedule) -> str:
    return str(schedule) if isinstance(schedule, (Constant, Power)) else f"({schedule})"


def _with_horizon(schedule: Any, horizon: int, *names: str) -> Any:
    return dataclasses.replace(schedule, **{n: getattr(schedule, n).with_horizon(horizon) for n in names})


@dataclass(frozen=True, slots=True)
class Constant(Schedule):
    """schedule(t) = value."""

    kind: ClassVar[str] = "constant"
    value: float

    def _values(self, t: np.ndarray) -> Any:
        return self.value

    def to_plain(self) -> Any:
        return self.value

    def __str__(self) -> str:
        return _number(self.value)


@dataclass(frozen=True, slots=True)
class Power(Schedule):
    """Power law.

        schedule(t) = scale / t**exponent

    With exponent 1/2 this is the alpha_t of Corollary 10 (p. 10).

    Args:
        scale: value at t = 1.
        exponent: decay s; 0 <= s < 1 for convergence, other values are allowed.
    """

    kind: ClassVar[str] = "power"
    scale: float
    exponent: float

    def _values(self, t: np.ndarray) -> Any:
        return self.scale / t**self.exponent

    def __str__(self) -> str:
        return f"{_number(self.scale)}/{_power('t', self.exponent)}"


@dataclass(frozen=True, slots=True)
class PolynomialTheta(Schedule):
    """The theta_t of equation (8) (p. 10).

        schedule(t) = 1 - alpha / max(t, start)**exponent

    Args:
        alpha: distance from 1 at t = 1 where start = 1; alpha < start**exponent keeps theta_t > 0.
        exponent: r > 0; clause 3 needs r <= 2 s.
        start: K >= 1; theta_t is constant before it. start = 1 with alpha = 1 gives theta_1 = 0.
    """

    kind: ClassVar[str] = "polynomial_theta"
    alpha: float
    exponent: float
    start: int = 1

    def _values(self, t: np.ndarray) -> Any:
        return 1.0 - self._complements(t)

    def _complements(self, t: np.ndarray) -> Any:
        return self.alpha / np.maximum(t, self.start) ** self.exponent

    def __str__(self) -> str:
        base = "t" if self.start == 1 else f"max(t, {self.start})"
        return f"1 - {_number(self.alpha)}/{_power(base, self.exponent)}"


@dataclass(frozen=True, slots=True)
class HorizonAlpha(Schedule):
    """alpha_t = alpha / sqrt(T), constant over a run of T steps (Theorem 17, p. 14)."""

    kind: ClassVar[str] = "horizon_alpha"
    alpha: float
    horizon: int | None = None

    @property
    def needs_horizon(self) -> bool:
        return self.horizon is None

    def with_horizon(self, horizon: int) -> Schedule:
        return self if self.horizon is not None else dataclasses.replace(self, horizon=horizon)

    def _values(self, t: np.ndarray) -> Any:
        assert self.horizon is not None
        return self.alpha / math.sqrt(self.horizon)

    def __str__(self) -> str:
        return f"{_number(self.alpha)}/sqrt({self.horizon or 'T'})"


@dataclass(frozen=True, slots=True)
class HorizonTheta(Schedule):
    """theta_t = 1 - theta / T, constant over a run of T steps (Theorem 17, p. 14)."""

    kind: ClassVar[str] = "horizon_theta"
    theta: float
    horizon: int | None = None

    @property
    def needs_horizon(self) -> bool:
        return self.horizon is None

    def with_horizon(self, horizon: int) -> Schedule:
        return self if self.horizon is not None else dataclasses.replace(self, horizon=horizon)

    def _values(self, t: np.ndarray) -> Any:
        return 1.0 - self._complements(t)

    def _complements(self, t: np.ndarray) -> Any:
        assert self.horizon is not None
        return self.theta / self.horizon

    def __str__(self) -> str:
        return f"1 - {_number(self.theta)}/{self.horizon or 'T'}"


@dataclass(frozen=True, slots=True)
class Geometric(Schedule):
    """schedule(t) = scale * ratio**t, the beta_t of AdamNC (p. 11)."""

    kind: ClassVar[str] = "geometric"
    scale: float
    ratio: float

    def _values(self, t: np.ndarray) -> Any:
        return self.scale * self.ratio**t

    def __str__(self) -> str:
        return f"{_number(self.scale)}*{_number(self.ratio)}^t"


@dataclass(frozen=True, slots=True)
class LinearWarmup(Schedule):
    """`then`, multiplied by t / steps until t = steps."""

    kind: ClassVar[str] = "linear_warmup"
    then: Schedule
    steps: int

    @property
    def parts(self) -> tuple[Schedule, ...]:
        return (self.then,)

    def with_horizon(self, horizon: int) -> Schedule:
        return _with_horizon(self, horizon, "then")

    def _values(self, t: np.ndarray) -> Any:
        return self.then._values(t) * np.minimum(t / self.steps, 1.0)

    def __str__(self) -> str:
        return f"{_bracketed(self.then)}*min(t/{self.steps}, 1)"


class _Decay(Schedule):
    """From `start` at t = 1 to `end` at t = steps + 1, constant afterwards; steps None means T."""

    __slots__ = ()
    start: float
    end: float
    steps: int | None

    @property
    def needs_horizon(self) -> bool:
        return self.steps is None

    def with_horizon(self, horizon: int) -> Schedule:
        return self if self.steps is not None else dataclasses.replace(self, steps=horizon)  # type: ignore[type-var]

    def _progress(self, t: np.ndarray) -> Any:
        assert self.steps is not None
        return np.minimum((t - 1) / self.steps, 1.0)

    @property
    def _said(self) -> str:
        return f"min((t - 1)/{self.steps or 'T'}, 1)"


@dataclass(frozen=True, slots=True)
class LinearDecay(_Decay):
    """schedule(t) = start + (end - start) * min((t - 1) / steps, 1)."""

    kind: ClassVar[str] = "linear_decay"
    start: float
    end: float = 0.0
    steps: int | None = None

    def _values(self, t: np.ndarray) -> Any:
        return self.start + (self.end - self.start) * self._progress(t)

    def __str__(self) -> str:
        start, end = _number(self.start), _number(self.end)
        return f"{start} + ({end} - {start})*{self._said}" if self.end else f"{start}*(1 - {self._said})"


@dataclass(frozen=True, slots=True)
class CosineDecay(_Decay):
    """schedule(t) = end + (start - end) * (1 + cos(pi min((t - 1) / steps, 1))) / 2."""

    kind: ClassVar[str] = "cosine_decay"
    start: float
    end: float = 0.0
    steps: int | None = None

    def _values(self, t: np.ndarray) -> Any:
        return self.end + (self.start - self.end) * (1.0 + np.cos(np.pi * self._progress(t))) / 2.0

    def __str__(self) -> str:
        start, end, wave = _number(self.start), _number(self.end), f"(1 + cos(pi*{self._said}))/2"
        return f"{end} + ({start} - {end})*{wave}" if self.end else f"{start}*{wave}"


@dataclass(frozen=True, slots=True)
class StepDecay(Schedule):
    """schedule(t) = start * factor**floor((t - 1) / every), torch's StepLR with t - 1 steps taken."""

    kind: ClassVar[str] = "step_decay"
    start: float
    factor: float
    every: int

    def _values(self, t: np.ndarray) -> Any:
        return self.start * self.factor ** np.floor((t - 1) / self.every)

    def __str__(self) -> str:
        return f"{_number(self.start)}, times {_number(self.factor)} every {self.every} steps"


@dataclass(frozen=True, slots=True)
class Piecewise(Schedule):
    """pieces[i] for boundaries[i-1] < t <= boundaries[i]; each piece sees the same t.

    Args:
        boundaries: the last t of each piece but the last, increasing.
        pieces: one more than boundaries.
    """

    kind: ClassVar[str] = "piecewise"
    boundaries: tuple[int, ...]
    pieces: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        if len(self.pieces) != len(self.boundaries) + 1 or list(self.boundaries) != sorted(set(self.boundaries)):
            raise ConfigError(
                f"piecewise with {len(self.pieces)} pieces and boundaries {list(self.boundaries)}",
                "n boundaries, in increasing order, separate n + 1 pieces",
                "add or remove a piece",
            )

    @property
    def parts(self) -> tuple[Schedule, ...]:
        return self.pieces

    def with_horizon(self, horizon: int) -> Schedule:
        return dataclasses.replace(self, pieces=tuple(piece.with_horizon(horizon) for piece in self.pieces))

    def _choose(self, t: np.ndarray, values: list[Any]) -> Any:
        which = np.searchsorted(np.asarray(self.boundaries), t, side="left")
        return np.choose(which, [np.broadcast_to(value, t.shape) for value in values])

    def _values(self, t: np.ndarray) -> Any:
        return self._choose(t, [piece._values(t) for piece in self.pieces])

    def _complements(self, t: np.ndarray) -> Any:
        return self._choose(t, [piece._complements(t) for piece in self.pieces])

    def __str__(self) -> str:
        said = [f"{piece} until t = {last}" for piece, last in zip(self.pieces, self.boundaries, strict=False)]
        return ", then ".join([*said, str(self.pieces[-1])])


@dataclass(frozen=True, slots=True)
class Product(Schedule):
    """The product of its factors at the same t."""

    kind: ClassVar[str] = "product"
    factors: tuple[Schedule, ...]

    @property
    def parts(self) -> tuple[Schedule, ...]:
        return self.factors

    def with_horizon(self, horizon: int) -> Schedule:
        return Product(tuple(factor.with_horizon(horizon) for factor in self.factors))

    def _values(self, t: np.ndarray) -> Any:
        return math.prod([factor._values(t) for factor in self.factors], start=np.ones(()))

    def _complements(self, t: np.ndarray) -> Any:
        value, left = np.ones(()), np.zeros(())
        for factor in self.factors:
            before, value = value, value * factor._values(t)
            inside = (before >= 0) & (before <= 1) & (value >= 0) & (value <= before)
            left = np.where(inside, left + before * factor._complements(t), 1.0 - value)
        return left

    def __str__(self) -> str:
        return "*".join(map(_bracketed, self.factors)) or "1"


@dataclass(frozen=True, slots=True)
class BiasCorrected(Schedule):
    """torch's bias correction said as a schedule (theory: Kingma and Ba 2015, section 3).

        schedule(t) = alpha_t sqrt(1 - prod theta_i) / (1 - prod beta_i),    products over i <= t

    The same map as torch's only if epsilon, too, is scaled by sqrt(1 - prod theta_i). The products are
    those of `running_products`: closed form for constants, every i to 1e6, quadrature beyond.
    """

    kind: ClassVar[str] = "bias_corrected"
    alpha: Schedule
    beta: Schedule
    theta: Schedule

    @property
    def parts(self) -> tuple[Schedule, ...]:
        return (self.alpha, self.beta, self.theta)

    def with_horizon(self, horizon: int) -> Schedule:
        return _with_horizon(self, horizon, "alpha", "beta", "theta")

    def _values(self, t: np.ndarray) -> Any:
        left_theta, left_beta = (-np.expm1(_log_product(part, t)) for part in (self.theta, self.beta))
        return self.alpha._values(t) * np.sqrt(left_theta) / left_beta

    def __str__(self) -> str:
        if isinstance(self.beta, Constant) and isinstance(self.theta, Constant):
            return f"{_bracketed(self.alpha)}*sqrt(1 - {self.theta}^t)/(1 - {self.beta}^t)"
        return f"{self.alpha}, bias corrected for {self.beta} and {self.theta}"


def _log_product(schedule: Schedule, t: np.ndarray) -> np.ndarray:
    steady = isinstance(schedule, (Constant, HorizonAlpha, HorizonTheta))
    return log_running_product(schedule._complements, t, steady)


def as_schedule(value: Any) -> Schedule:
    """A Schedule from itself, a number, an expression or plain data."""
    return value if isinstance(value, Schedule) else schedule_from_plain(value)


def schedule_from_plain(data: Any) -> Schedule:
    """Reads what `to_plain` wrote, numbers, and expressions such as "0.001/sqrt(t)".

    Raises:
        ConfigError: unknown kind, wrong arguments, or an expression with a fault.
    """
    if isinstance(data, str):
        from hvd_adam.expressions import parse

        return parse(data)
    if isinstance(data, Real) and not isinstance(data, bool):
        return Constant(data)  # type: ignore[arg-type]  # made a float there
    if isinstance(data, dict) and len(data) == 1:
        kind, arguments = next(iter(data.items()))
        if kind in _KINDS:
            return _build(_KINDS[kind], arguments)
    kinds = ", ".join(sorted(_KINDS))
    near = difflib.get_close_matches(str(next(iter(data))), _KINDS, n=1) if isinstance(data, dict) and data else []
    raise ConfigError(
        f"schedule: {str(data)[:80]}",
        f"a schedule is a number, an expression in t, or one of {kinds} with its arguments",
        f"did you mean {near[0]}?"
        if near
        else 'write for instance "0.001/sqrt(t)" or {power: {scale: 0.001, exponent: 0.5}}',
    )


def _build(cls: type[Schedule], arguments: Any) -> Schedule:
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    given = arguments if isinstance(arguments, dict) else {}
    faults = [f"unknown {name}" for name in given if name not in fields]
    faults += [f"missing {n}" for n, f in fields.items() if f.default is dataclasses.MISSING and n not in given]
    if faults or not isinstance(arguments, dict):
        raise ConfigError(
            f"schedule {cls.kind}: {', '.join(faults)}",
            f"{cls.kind} takes {', '.join(fields)}",
            f"write {{{cls.kind}: {{{', '.join(f'{name}: ...' for name in fields)}}}}}",
        )
    return cls(**arguments)


def _argument(kind: str, field: Any, value: Any) -> Any:
    """One argument of a schedule, checked by its declared type and made plain."""
    type_ = field.type
    if type_.startswith("tuple"):
        if not isinstance(value, (tuple, list)):
            _refuse(kind, field.name, value, "a list")
        return tuple(as_schedule(v) if "Schedule" in type_ else _whole(kind, field.name, v) for v in value)
    if type_ == "Schedule":
        return as_schedule(value)
    if type_ == "str" and not isinstance(value, str):
        _refuse(kind, field.name, value, "text")
    if type_ == "str" or (value is None and "None" in type_):
        return value
    if type_ != "float":
        return _whole(kind, field.name, value)
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as text
        value = getattr(as_schedule(value), "value", value)
    if not isinstance(value, Real) or isinstance(value, bool):
        _refuse(kind, field.name, value, "a number")
    try:
        return float(value)
    except OverflowError:
        _refuse(kind, field.name, value, "a number that float64 can hold")


def _whole(kind: str, name: str, value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        _refuse(kind, name, value, "a whole number >= 1")
    if int(value) > 2**62:
        _refuse(kind, name, value, "a whole number below 2^62")
    return int(value)


def _refuse(kind: str, name: str, value: Any, wanted: str) -> NoReturn:
    raise ConfigError(f"schedule {kind}, {name}: {str(value)[:80]}", f"it must be {wanted}", f"set {name} to {wanted}")


_DOMAINS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "alpha": ("alpha_t must be finite and >= 0", lambda v: np.isfinite(v) & (v >= 0)),
    "beta": ("beta_t must lie in [0, 1)", lambda v: (v >= 0) & (v < 1)),
    "theta": ("theta_t must lie in [0, 1)", lambda v: (v >= 0) & (v < 1)),
}


def check_training_domain(schedule: Schedule, role: str, steps: int) -> None:
    """Checks that training can follow a schedule: every t to 1e6, then 10,000 of each decade.

    Args:
        role: "alpha", "beta" or "theta".
        steps: T, the run's length.

    Raises:
        ConfigError: names the first such t, and the value there.
    """
    rule, holds = _DOMAINS[role]
    schedule = schedule.with_horizon(_whole("over a run", "steps", steps))
    for block in _steps_to_look_at(steps):
        values = schedule(block)
        bad = np.flatnonzero(~holds(values))
        if bad.size:
            t, value = int(block[bad[0]]), values[bad[0]]
            raise ConfigError(
                f"{role}: {schedule} is {value:g} at t = {t}",
                rule,
                "bound it, for instance with max(..., 0), or start it later (t + 1 in place of t)",
            )


def _steps_to_look_at(steps: int) -> Sequence[np.ndarray]:
    dense = [np.arange(start, min(start + 65536, steps + 1)) for start in range(1, min(steps, 10**6) + 1, 65536)]
    if steps > 10**6:
        dense.append(
            np.unique(np.geomspace(10**6, steps, 10**4 * math.ceil(math.log10(steps / 1e6)) + 1).astype(np.int64))
        )
    return dense
