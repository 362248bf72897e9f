"""Two studies against each other: the verdict, and each cell's ratio."""

from __future__ import annotations

from collections.abc import Iterator

from hvd_adam.errors import ConfigError
from hvd_adam.study.analysis import Analysis
from hvd_adam.study.compare import Comparison, compare
from hvd_adam.study.figures import figure, listed, ratio
from hvd_adam.study.passage import Passage


def compared(a: Analysis, b: Analysis) -> Comparison:
    """B against A, for the first target of both.

    Raises:
        ConfigError: their targets or test samples differ, one has no usable run, or they share no cell and seed.
    """
    if a.target != b.target:
        raise ConfigError(
            f"targets {a.target} in {a.place} and {b.target} in {b.place}",
            "steps to two targets are not comparable",
            "make one of the studies again with the other's target",
        )
    shares = [(made.study.base.get("evaluate") or {}).get("test") or "all" for made in (a, b)]
    if shares[0] != shares[1]:
        raise ConfigError(
            f"evaluate.test: {shares[0]} in {a.place} and {shares[1]} in {b.place}",
            "measures on two sets of test samples are not comparable",
            "make one of the studies again with the other's evaluate.test",
        )
    return compare(_passages(a), _passages(b))


def lines(found: Comparison) -> Iterator[str]:
    """The verdict first, then the cells."""
    yield f"{found}."
    for name, one in found.cells.items():
        yield f"  {name}: steps of B / steps of A {figure(one, ratio)}"
    if found.alike.rejects(0.01):
        yield f"  the cells differ: {found.alike.question}, p = {found.alike.p:.2g}"
    if found.alone:
        yield f"  in one study only, and left aside: {listed(list(found.alone))}"


def _passages(made: Analysis) -> list[Passage]:
    found = [passage for cell in made.cells for passage in cell.passages]
    if not found:
        raise ConfigError(f"study {made.place}", "none of its runs can be used", "hvd-adam study status tells why")
    return found
