"""Schedules written as text: "0.001/sqrt(t)", "1 - 0.9/t^0.5".

    sum     = term (("+" | "-") term)*
    term    = factor (("*" | "/") factor)*
    factor  = "-" factor | atom ["^" factor]
    atom    = number | t | T | pi | name "(" sum ("," sum)* ")" | "(" sum ")"

Nothing is ever evaluated as code: the text becomes a tree of tuples, and the tree is walked.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NoReturn

import numpy as np

from hvd_adam.errors import ConfigError
from hvd_adam.schedules.base import Schedule
from hvd_adam.schedules.laws import Constant

Tree = tuple[Any, ...]

LONGEST = 1000  # characters
DEEPEST = 50  # brackets, signs and powers inside one another
FUNCTIONS: dict[str, tuple[int, Any]] = {
    "sqrt": (1, np.sqrt),
    "exp": (1, np.exp),
    "log": (1, np.log),
    "cos": (1, np.cos),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
}
_OPERATORS = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": np.power}
_TOKEN = re.compile(
    r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(\*\*|[-+*/^(),]))", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Expression(Schedule):
    """A schedule given by text in t and, where the run's length matters, T.

    Args:
        text: see the grammar above.
        horizon: T, or None until it is known.
    """

    kind: ClassVar[str] = "expression"
    text: str
    horizon: int | None = None

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        tree_of(self.text)

    @property
    def tree(self) -> Tree:
        """("number", x), ("t",), ("T",), (operator, left, right), ("negative", x), (function, *arguments)."""
        return tree_of(self.text)

    @property
    def needs_horizon(self) -> bool:
        return self.horizon is None and _mentions(self.tree, "T")

    def with_horizon(self, horizon: int) -> Schedule:
        return Expression(self.text, horizon) if self.needs_horizon else self

    def _values(self, t: np.ndarray) -> Any:
        return _evaluate(self.tree, t, self.horizon)

    def _complements(self, t: np.ndarray) -> Any:
        return _complement(self.tree, t, self.horizon)

    def to_plain(self) -> Any:
        return self.text if self.horizon is None else {self.kind: {"text": self.text, "horizon": self.horizon}}

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> Schedule:
    """The schedule that `text` says: a Constant for a plain number.

    Raises:
        ConfigError: points at the character where the text stops making sense.

    >>> parse("0.1/sqrt(t)")(4)
    0.05
    """
    tree = tree_of(text)
    return Constant(tree[1]) if tree[0] == "number" else Expression(text.strip())


@lru_cache(maxsize=1024)
def tree_of(text: str) -> Tree:
    """The tree of an expression; see `Expression.tree`."""
    if len(text) > LONGEST:
        raise ConfigError(
            f"an expression of {len(text)} characters, beginning {text[:40]!r}",
            f"schedules have at most {LONGEST} characters",
            "shorten it, or use piecewise or product",
        )
    return _Parser(text).whole()


def _mentions(tree: Tree, name: str) -> bool:
    waiting = [tree]
    while waiting:
        head, *parts = waiting.pop()
        if head == name:
            return True
        waiting += [part for part in parts if isinstance(part, tuple)]
    return False


def _evaluate(tree: Tree, t: np.ndarray, horizon: int | None) -> Any:
    rest = []
    while tree[0] in _OPERATORS:  # a long sum leans to the left: no recursion along it
        rest.append((_OPERATORS[tree[0]], tree[2]))
        tree = tree[1]
    value = _evaluate_leaf(tree, t, horizon)
    for operator, right in reversed(rest):
        value = operator(value, _evaluate(right, t, horizon))
    return value


def _evaluate_leaf(tree: Tree, t: np.ndarray, horizon: int | None) -> Any:
    head = tree[0]
    if head == "number":
        return np.float64(tree[1])
    if head in ("t", "T"):
        return t if head == "t" else np.float64(horizon)
    values = [_evaluate(part, t, horizon) for part in tree[1:]]
    return -values[0] if head == "negative" else FUNCTIONS[head][1](*values)


def _complement(tree: Tree, t: np.ndarray, horizon: int | None) -> Any:
    """1 - tree; the 1 of "1 - ..." or "... + 1" is taken away first, so nothing cancels against it."""
    if tree[0] in ("min", "max"):
        other = np.maximum if tree[0] == "min" else np.minimum
        return other(_complement(tree[1], t, horizon), _complement(tree[2], t, horizon))
    if tree[0] == "exp":
        return -np.expm1(_evaluate(tree[1], t, horizon))
    if tree[0] == "sqrt":
        return _complement(tree[1], t, horizon) / (1.0 + _evaluate(tree, t, horizon))
    terms = []
    while tree[0] in ("+", "-"):
        terms.append((-1.0 if tree[0] == "+" else 1.0, tree[2]))
        tree = tree[1]
    terms.append((-1.0, tree))
    terms.sort(key=lambda term: term[1][0] != "number")  # numbers first: they meet the 1
    value: Any = np.float64(1.0)
    for sign, term in terms:
        value = value + sign * _evaluate(term, t, horizon)
    return value


class _Parser:
    """Recursive descent over one text; depth is bounded, so that no input exhausts the stack."""

    def __init__(self, text: str) -> None:
        self.text, self.place, self.depth = text, 0, 0
        self.token, self.start = "", 0
        self.kind = ""
        self._advance()

    def whole(self) -> Tree:
        tree = self._sum()
        if self.kind != "end":
            self._fail(f"{self.token!r} is not expected here", "an operator, or the end, would be")
        return tree

    def _advance(self) -> None:
        match = _TOKEN.match(self.text, self.place)
        if match:
            group = match.lastindex or 0
            self.kind = ("number", "name", "sign")[group - 1]
            self.token, self.start, self.place = match[group], match.start(group), match.end()
        else:
            rest = self.text[self.place :].lstrip()
            self.kind, self.token = ("sign", rest[0]) if rest else ("end", "the end")
            self.start = self.place = len(self.text) - len(rest)
            if rest:
                self._fail(f"{rest[0]!r} is no part of an expression", "numbers, t, T, + - * / ^ and functions are")

    def _fail(self, found: str, hint: str) -> NoReturn:
        begin = max(0, self.start - 50)
        excerpt = self.text[begin : self.start + 20].replace("\n", " ")
        caret = " " * (self.start - begin) + "^"
        raise ConfigError(
            f"in the expression, at character {self.start + 1}:\n    {excerpt}\n    {caret} here:",
            found,
            hint,
        )

    def _enter(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            self._fail(f"more than {DEEPEST} levels of brackets, signs and powers", "write it flatter")

    def _sum(self) -> Tree:
        return self._chain(("+", "-"), lambda: self._chain(("*", "/"), self._factor))

    def _chain(self, signs: tuple[str, ...], operand: Any) -> Tree:
        tree = operand()
        while self.kind == "sign" and self.token in signs:
            sign = self.token
            self._advance()
            tree = (sign, tree, operand())
        return tree

    def _factor(self) -> Tree:
        self._enter()
        if self.kind == "sign" and self.token == "-":
            self._advance()
            tree: Tree = ("negative", self._factor())
        else:
            tree = self._atom()
            if self.kind == "sign" and self.token in ("^", "**"):
                self._advance()
                tree = ("^", tree, self._factor())
        self.depth -= 1
        return tree

    def _atom(self) -> Tree:
        if self.kind == "number":
            value = float(self.token)
            if value == np.inf:
                self._fail(f"{self.token} is too large for a float64", "the largest is about 1.8e308")
            self._advance()
            return ("number", value)
        if self.kind == "name":
            return self._name()
        if self.token == "(":
            self._advance()
            tree = self._sum()
            self._expect(")")
            return tree
        self._fail(
            f"{self.token} stands where a value is expected", "write a number, t, T, pi, a function or a bracket"
        )

    def _name(self) -> Tree:
        name = self.token
        if name in ("t", "T", "pi"):
            self._advance()
            return ("number", float(np.pi)) if name == "pi" else (name,)
        if name not in FUNCTIONS:
            near = difflib.get_close_matches(name, ["t", "T", "pi", *FUNCTIONS], n=1)
            self._fail(
                f"{name!r} is not known" + (f"; did you mean {near[0]}?" if near else ""),
                f"known are t, T, pi, {', '.join(FUNCTIONS)}",
            )
        self._advance()
        self._expect("(")
        arguments = [self._sum()]
        while self.kind == "sign" and self.token == ",":
            self._advance()
            arguments.append(self._sum())
        count = FUNCTIONS[name][0]
        if len(arguments) != count:
            self._fail(f"{name}: {len(arguments)} arguments", f"it takes {count}")
        self._expect(")")
        return (name, *arguments)

    def _expect(self, sign: str) -> None:
        if self.token != sign or self.kind != "sign":
            self._fail(f"{self.token} stands where {sign!r} is expected", f"add {sign!r}")
        self._advance()
