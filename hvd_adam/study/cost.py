"""What a target costs on each number of nodes, and how many to take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite

from hvd_adam.study.estimate import Estimate

WITHIN = 0.10  # of the fastest


@dataclass(frozen=True, slots=True)
class Option:
    """One way to the target.

    Args:
        name: the cell.
        nodes: number of nodes.
        seconds: to the target.
        node_hours: nodes x seconds / 3600.
    """

    name: str
    nodes: int
    seconds: Estimate
    node_hours: Estimate


@dataclass(frozen=True, slots=True)
class Choice:
    """The recommended node counts.

    Args:
        fastest, cheapest: by their estimates.
        cheap_and_fast: the cheapest of those within 10 % of the fastest.
        rivals: node counts that the data do not tell from the fastest: their intervals reach below its upper end.
    """

    fastest: Option
    cheapest: Option
    cheap_and_fast: Option
    rivals: tuple[int, ...]


def options(seconds: Mapping[str, Estimate], nodes: Mapping[str, int]) -> list[Option]:
    """Return the options of cells with a finite time, fewest nodes first.

    Args:
        seconds: to the target, by cell.
        nodes: by cell.
    """
    found = []
    for name, time in seconds.items():
        if isfinite(time.estimate):
            scale = nodes[name] / 3600
            hours = replace(
                time,
                estimate=time.estimate * scale,
                low=time.low * scale,
                high=time.high * scale,
                method=f"{nodes[name]} nodes x " + time.method,
            )
            found.append(Option(name, nodes[name], time, hours))
    return sorted(found, key=lambda option: (option.nodes, option.seconds.estimate, option.name))


def choose(found: list[Option]) -> Choice | None:
    """Return the recommendation; None where no cell has a finite time. At a tie the fewer nodes win."""
    if not found:
        return None
    fastest = min(found, key=lambda option: (option.seconds.estimate, option.nodes))
    cheapest = min(found, key=lambda option: (option.node_hours.estimate, option.nodes))
    near = [option for option in found if option.seconds.estimate <= (1 + WITHIN) * fastest.seconds.estimate]
    both = min(near, key=lambda option: (option.node_hours.estimate, option.nodes))
    rivals = sorted({option.nodes for option in found if option.seconds.low <= fastest.seconds.high})
    return Choice(fastest, cheapest, both, tuple(n for n in rivals if n != fastest.nodes))
