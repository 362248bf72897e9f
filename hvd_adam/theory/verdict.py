"""What the check says, as values: clauses with their state and evidence, and the verdict over all four."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any


class State(str, Enum):
    """What is known of a clause, or of all of them."""

    HOLDS = "holds"
    VIOLATED = "violated"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a state is believed. The two kinds are never mixed.

    Attributes:
        kind: "proved": by algebra for every t, or by a step that is exhibited; "numeric": by looking.
        text: how, in a few words.
        dense, far: numeric: every t up to `dense` was looked at, and a geometric grid up to `far`.
    """

    kind: str
    text: str
    dense: int | None = None
    far: int | None = None

    @property
    def is_proof(self) -> bool:
        return self.kind == "proved"


def proved(text: str) -> Evidence:
    return Evidence("proved", text)


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of Corollary 9 (p. 10), judged.

    Attributes:
        number: 1 to 4.
        state, evidence: the judgement and its ground.
        says: the finding in a few words, with its values.
        first: the first step at which it fails, where it fails at a step.
        resumes: the first step from which on it holds, where it fails for a while only.
    """

    number: int
    state: State
    evidence: Evidence
    says: str
    first: int | None = None
    resumes: int | None = None

    @property
    def holds(self) -> bool:
        return self.state is State.HOLDS


STATEMENTS = {
    1: "0 <= beta_t <= beta < 1",
    2: "0 < theta_t < 1, non-decreasing",
    3: "chi_t = alpha_t/sqrt(1-theta_t) almost falling",
    4: "sum alpha_t sqrt(1-theta_t) / (T alpha_T) -> 0",
}


@dataclass(frozen=True, slots=True)
class Bound:
    """Theorem 2 at one T: E||grad f(x_tau)|| <= sqrt(C * start + C' * ratio), C and C' not depending on T.

    Attributes:
        steps: T; the last t with alpha_t > 0 where the schedule has decayed to 0 before the end.
        start: 1 / (T alpha_T).
        ratio: clause 4's ratio at T.
    """

    steps: int
    start: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Constant0:
    """C_0 = sup_{i<=t} chi_t / chi_i, the smallest constant of clause 3; inf where there is none.

    Attributes:
        value: over all t that the evidence speaks of.
        within_run: the same over t <= T.
        low, high: the steps i and t where it is taken; high 0 says "in the limit".
    """

    value: float
    within_run: float
    low: int
    high: int
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Repair:
    """The nearest change that passes: checked again, not canned."""

    changes: tuple[tuple[str, str], ...]
    rate: str
    evidence: str

    @property
    def text(self) -> str:
        return " and ".join(f"{name} = {value}" for name, value in self.changes)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of convergence by Corollary 9.

    Attributes:
        alpha, beta, theta: the schedules as text; alpha includes bias correction.
        steps: T.
        family: a schedule knows T: judged as T grows, with constants that hold for every T.
        rate: "T^-0.25" and the like, the order of E||grad f(x_tau)||; "" where it is not known.
        limit: what clause 4's ratio tends to where that is a positive number.
        notes: what else the user must know; repair: the nearest change that passes.
    """

    alpha: str
    beta: str
    theta: str
    steps: int
    family: bool
    clauses: tuple[Clause, ...]
    constant: Constant0 | None
    bound: Bound | None
    rate: str = ""
    limit: float | None = None
    notes: tuple[str, ...] = ()
    repair: Repair | None = None

    @property
    def state(self) -> State:
        states = {clause.state for clause in self.clauses}
        if State.VIOLATED in states:
            return State.VIOLATED
        return State.UNDECIDED if State.UNDECIDED in states else State.HOLDS

    @property
    def holds(self) -> bool:
        return self.state is State.HOLDS

    @property
    def is_proved(self) -> bool:
        """The state rests on proofs alone: of all clauses where it holds, of one that fails where not."""
        if self.state is State.VIOLATED:
            return any(c.state is State.VIOLATED and c.evidence.is_proof for c in self.clauses)
        return self.holds and all(c.evidence.is_proof for c in self.clauses)

    @property
    def failing(self) -> tuple[Clause, ...]:
        """The clauses that are not shown to hold, violated ones first."""
        return tuple(sorted((c for c in self.clauses if not c.holds), key=lambda c: c.state is not State.VIOLATED))

    def to_plain(self) -> dict[str, Any]:
        """Plain data for JSON: nan and inf as text."""
        plain = {
            "schema": 1,
            "verdict": self.state.value,
            "proved": self.is_proved,
            "schedules": {"alpha": self.alpha, "beta": self.beta, "theta": self.theta},
            "steps": self.steps,
            "judged_as": "a family, T to infinity" if self.family else "a sequence, t to infinity",
            "clauses": [_clause(c) for c in self.clauses],
            "constant": self.constant and {**_fields(self.constant), "evidence": _fields(self.constant.evidence)},
            "bound": self.bound and _fields(self.bound),
            "rate": self.rate or None,
            "limit_of_ratio": self.limit,
            "notes": list(self.notes),
            "change": self.repair and {**_fields(self.repair), "changes": dict(self.repair.changes)},
        }
        return _without_infinities(plain)


def _clause(clause: Clause) -> dict[str, Any]:
    return {
        **_fields(clause),
        "statement": STATEMENTS[clause.number],
        "state": clause.state.value,
        "evidence": _fields(clause.evidence),
    }


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_infinities(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
