"""Every schedule as one kind of tree: that of the grammar, with four heads more.

    ("piecewise", boundaries, trees)    pieces[i] until boundaries[i]
    ("floor", x)
    ("left", theta, schedule)           1 - prod_{i<=t} theta_i: theta as a tree, and as the schedule itself
    ("opaque", schedule)                what has no tree

Horizons that are not bound stand as ("T",).
"""

from __future__ import annotations

from typing import Any, Callable

from hvd_adam.schedules import (
    BiasCorrected,
    Constant,
    CosineDecay,
    Expression,
    Geometric,
    HorizonAlpha,
    HorizonTheta,
    LinearDecay,
    LinearWarmup,
    Piecewise,
    PolynomialTheta,
    Power,
    Product,
    Schedule,
    StepDecay,
)

Tree = tuple[Any, ...]

STEP: Tree = ("t",)
HORIZON: Tree = ("T",)
_PI = 3.141592653589793


def number(value: float) -> Tree:
    return ("number", float(value))


def tree_of(schedule: Schedule) -> Tree:
    """The schedule as a tree."""
    make = _TREES.get(type(schedule))
    return with_progress(make(schedule)) if make else ("opaque", schedule)


def with_progress(tree: Tree) -> Tree:
    """The same with t/T brought together: pi*t/T becomes pi*(t/T), and t/(2*T) becomes (t/T)/2."""
    if not mentions(tree, "T") or tree[0] == "T":
        return tree
    if tree[0] == "piecewise":
        return ("piecewise", tree[1], tuple(with_progress(piece) for piece in tree[2]))
    if tree[0] == "left":
        return ("left", with_progress(tree[1]), tree[2])
    tree = (tree[0], *(with_progress(part) for part in tree[1:]))
    if tree[0] == "/" and tree[2][0] == "*" and HORIZON in tree[2]:
        other = tree[2][2] if tree[2][1] == HORIZON else tree[2][1]
        return ("/", with_progress(("/", tree[1], HORIZON)), other)
    if tree[0] == "/" and tree[2] == HORIZON and tree[1][0] == "*":
        one, two = tree[1][1:]
        if mentions(two, "t") and not mentions(one, "t"):
            return ("*", one, with_progress(("/", two, HORIZON)))
        if mentions(one, "t") and not mentions(two, "t"):
            return ("*", with_progress(("/", one, HORIZON)), two)
    return tree


def complement_of(tree: Tree) -> Tree:
    """1 - tree, without the 1 where the tree is 1 - x."""
    if tree[0] == "-" and tree[1] == ("number", 1.0):
        return tree[2]
    if tree[0] == "number":  # 1 - 0.999 is 0.001, as it was meant
        return ("-", number(1), tree)
    if tree[0] == "piecewise":
        return ("piecewise", tree[1], tuple(complement_of(piece) for piece in tree[2]))
    if tree[0] in ("max", "min"):
        return ("min" if tree[0] == "max" else "max", complement_of(tree[1]), complement_of(tree[2]))
    return ("-", number(1), tree)


def bind(tree: Tree, horizon: float) -> Tree:
    """The tree with T replaced by a number."""
    return replace(tree, HORIZON, number(horizon))


def replace(tree: Tree, old: Tree, new: Tree) -> Tree:
    """The tree with every `old` inside replaced by `new`."""
    if tree == old:
        return new
    if tree[0] in ("number", "opaque", "t", "T"):
        return tree
    if tree[0] == "piecewise":
        return ("piecewise", tree[1], tuple(replace(piece, old, new) for piece in tree[2]))
    if tree[0] == "left":
        return ("left", replace(tree[1], old, new), tree[2])
    return (tree[0], *(replace(part, old, new) for part in tree[1:]))


def mentions(tree: Tree, head: str) -> bool:
    """Whether the head occurs anywhere: "t", "T", "opaque", ..."""
    waiting = [tree]
    while waiting:
        found = waiting.pop()
        if found[0] == head:
            return True
        waiting += parts_of(found)
    return False


def hides_step(tree: Tree, *heads: str) -> bool:
    """Whether something that T decides changes with t though no t is written: in a running product, or from a piece on.

    Args:
        heads: "left", "piecewise": where to look.
    """
    waiting = [tree]
    while waiting:
        found = waiting.pop()
        if found[0] in heads and mentions(found, "T"):
            return True
        waiting += parts_of(found)
    return False


def at_first_step(tree: Tree) -> Tree:
    """The tree at t = 1: the first piece, and a product of one factor."""
    if tree[0] == "piecewise":
        return at_first_step(tree[2][0])
    if tree[0] == "left":
        return at_first_step(complement_of(tree[1]))
    if tree == STEP:
        return number(1)
    if tree[0] in ("number", "opaque", "T"):
        return tree
    return (tree[0], *(at_first_step(part) for part in tree[1:]))


def parts_of(tree: Tree) -> tuple[Tree, ...]:
    """The trees directly inside."""
    if tree[0] in ("number", "opaque", "t", "T"):
        return ()
    if tree[0] == "piecewise":
        return tree[2]
    return (tree[1],) if tree[0] == "left" else tree[1:]


def size_of(tree: Tree) -> int:
    """How many nodes it has."""
    count, waiting = 0, [tree]
    while waiting:
        count += 1
        waiting += parts_of(waiting.pop())
    return count


def breakpoints(*trees: Tree) -> list[int]:
    """Steps at which a piece or a bound may change: the whole numbers >= 2 that are written in the trees."""
    found: set[int] = set()
    waiting = list(trees)
    while waiting:
        tree = waiting.pop()
        if tree[0] == "piecewise":
            found.update(boundary + 1 for boundary in tree[1])
        if tree[0] == "number" and 2 <= tree[1] <= 2**53 and tree[1] == int(tree[1]):
            found.update((int(tree[1]), int(tree[1]) + 1))
        waiting += parts_of(tree)
    return sorted(found)


def is_progress(tree: Tree) -> bool:
    """t/T or (t - 1)/T."""
    return tree[0] == "/" and tree[2] == HORIZON and tree[1] in (STEP, ("-", STEP, number(1)))


def _over_power(scale: float, base: Tree, exponent: float) -> Tree:
    if exponent == 0:
        return number(scale)
    return ("/", number(scale), base if exponent == 1 else ("^", base, number(exponent)))


def _polynomial_theta(s: PolynomialTheta) -> Tree:
    base = STEP if s.start == 1 else ("max", STEP, number(s.start))
    return ("-", number(1), _over_power(s.alpha, base, s.exponent))


def _horizon(value: int | None) -> Tree:
    return HORIZON if value is None else number(value)


def _decay(s: LinearDecay | CosineDecay) -> Tree:
    progress: Tree = ("min", ("/", ("-", STEP, number(1)), _horizon(s.steps)), number(1))
    if isinstance(s, LinearDecay):
        shape: Tree = ("-", number(1), progress)
    else:
        shape = ("/", ("+", number(1), ("cos", ("*", number(_PI), progress))), number(2))
    start, end = number(s.start), number(s.end)
    if s.end == 0:
        return ("*", start, shape)
    return ("+", end, ("*", ("-", start, end), shape))


def _step_decay(s: StepDecay) -> Tree:
    taken: Tree = ("floor", ("/", ("-", STEP, number(1)), number(s.every)))
    return ("*", number(s.start), ("^", number(s.factor), taken))


def _warmup(s: LinearWarmup) -> Tree:
    return ("*", tree_of(s.then), ("min", ("/", STEP, number(s.steps)), number(1)))


def _product(s: Product) -> Tree:
    tree = number(1)
    for factor in s.factors:
        tree = ("*", tree, tree_of(factor))
    return tree


def _bias_corrected(s: BiasCorrected) -> Tree:
    left_theta: Tree = ("left", tree_of(s.theta), s.theta)
    left_beta: Tree = ("left", tree_of(s.beta), s.beta)
    return ("*", tree_of(s.alpha), ("/", ("sqrt", left_theta), left_beta))


def _expression(s: Expression) -> Tree:
    return s.tree if s.horizon is None else bind(s.tree, s.horizon)


_TREES: dict[type, Callable[[Any], Tree]] = {
    Constant: lambda s: number(s.value),
    Power: lambda s: _over_power(s.scale, STEP, s.exponent),
    PolynomialTheta: _polynomial_theta,
    HorizonAlpha: lambda s: ("/", number(s.alpha), ("sqrt", _horizon(s.horizon))),
    HorizonTheta: lambda s: ("-", number(1), ("/", number(s.theta), _horizon(s.horizon))),
    Geometric: lambda s: ("*", number(s.scale), ("^", number(s.ratio), STEP)),
    LinearDecay: _decay,
    CosineDecay: _decay,
    StepDecay: _step_decay,
    LinearWarmup: _warmup,
    Piecewise: lambda s: ("piecewise", s.boundaries, tuple(tree_of(piece) for piece in s.pieces)),
    Product: _product,
    BiasCorrected: _bias_corrected,
    Expression: _expression,
}
