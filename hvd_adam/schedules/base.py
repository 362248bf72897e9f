"""What a schedule is: a frozen value t -> float that checks its arguments and says itself as plain data."""

from __future__ import annotations

import dataclasses
import difflib
from numbers import Integral, Real
from typing import Any, Callable, ClassVar, NoReturn, overload

import numpy as np

from hvd_adam.errors import ConfigError

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

    @overload
    def __call__(self, t: float) -> float: ...

    @overload
    def __call__(self, t: np.ndarray) -> np.ndarray: ...

    def __call__(self, t: Any) -> Any:
        """The value at step t >= 1: a float for a number, a float64 array for an array.

        Raises:
            ConfigError: the schedule depends on the horizon T, and none is bound.
        """
        return self._at(t, self._values)

    def __mul__(self, other: object) -> NoReturn:
        """Refuses torch's LR schedulers, which multiply the lr that they find.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"the schedule {self}, multiplied from outside",
            "a schedule is a value of t; a torch LR scheduler cannot scale it",
            "keep one of the two, or write the product into the expression",
        )

    __rmul__ = __truediv__ = __rtruediv__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__

    def __float__(self) -> NoReturn:
        """Refuses torch's ReduceLROnPlateau, which reads the lr that it finds as a number.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"the schedule {self}, taken for a number",
            "a schedule has a value at each t; a torch LR scheduler cannot scale it",
            "keep one of the two; schedule(t) is the number at step t",
        )

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


def as_schedule(value: Any) -> Schedule:
    """A Schedule from itself, a number, an expression or plain data."""
    return value if isinstance(value, Schedule) else schedule_from_plain(value)


def schedule_from_plain(data: Any) -> Schedule:
    """Reads what `to_plain` wrote, numbers, and expressions such as "0.001/sqrt(t)".

    Raises:
        ConfigError: unknown kind, wrong arguments, or an expression with a fault.
    """
    if isinstance(data, str):
        from hvd_adam.schedules.expressions import parse

        return parse(data)
    if isinstance(data, Real) and not isinstance(data, bool):
        return _build(_KINDS["constant"], {"value": data})
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
            f"it takes {', '.join(fields)}",
            f"write {{{cls.kind}: {{{', '.join(f'{name}: ...' for name in fields)}}}}}",
        )
    return cls(**arguments)


def _argument(kind: str, field: Any, value: Any) -> Any:
    """One argument of a schedule, checked by its declared type and made plain."""
    type_ = field.type
    if type_.startswith("tuple"):
        if not isinstance(value, (tuple, list)):
            _refuse(kind, field.name, value, "a list")
        return tuple(as_schedule(v) if "Schedule" in type_ else whole_number(kind, field.name, v) for v in value)
    if type_ == "Schedule":
        return as_schedule(value)
    if type_ == "str" and not isinstance(value, str):
        _refuse(kind, field.name, value, "text")
    if type_ == "str" or (value is None and "None" in type_):
        return value
    if type_ != "float":
        return whole_number(kind, field.name, value)
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as text
        value = getattr(as_schedule(value), "value", value)
    if not isinstance(value, Real) or isinstance(value, bool):
        _refuse(kind, field.name, value, "a number")
    try:
        return float(value)
    except OverflowError:
        _refuse(kind, field.name, value, "a number that float64 can hold")


def whole_number(kind: str, name: str, value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        _refuse(kind, name, value, "a whole number >= 1")
    if int(value) > 2**62:
        _refuse(kind, name, value, "a whole number below 2^62")
    return int(value)


def _refuse(kind: str, name: str, value: Any, wanted: str) -> NoReturn:
    raise ConfigError(f"schedule {kind}, {name}: {str(value)[:80]}", f"it must be {wanted}", f"set {name} to {wanted}")
