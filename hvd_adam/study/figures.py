"""How a figure is written: never without its n, and an interval or the words "single run"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, isfinite, isnan

from hvd_adam.study.estimate import Estimate
from hvd_adam.theory.elbow import Range

Writer = Callable[[float], str]


def count(value: float) -> str:
    """Steps, samples: three digits are all that an estimate carries, and thousands are set apart.

    >>> count(1302.4), count(98.6), count(7.25)
    ('1,300', '98.6', '7.25')
    """
    if not isfinite(value):
        return "unknown" if isnan(value) else "no end seen" if value > 0 else "no start seen"
    return f"{float(f'{value:.3g}'):,.10g}"


def whole(value: float) -> str:
    """A batch or a number of workers: never rounded.

    >>> whole(4096.0)
    '4,096'
    """
    return f"{value:,.10g}" if isfinite(value) else count(value)


def ratio(value: float) -> str:
    """A slope or a ratio: two decimals; what rounds to zero has no sign.

    >>> ratio(-0.9712), ratio(-0.002)
    ('-0.97', '0.00')
    """
    return f"{round(value, 2) + 0.0:.2f}" if isfinite(value) else count(value)


def percent(value: float) -> str:
    """A share.

    >>> percent(0.125)
    '12 %'
    """
    return f"{round(100 * value)} %" if isfinite(value) else count(value)


def seconds(value: float) -> str:
    """A length of time in the unit that reads best.

    >>> seconds(0.0034), seconds(0.9996), seconds(75), seconds(3.7e6)
    ('3.4 ms', '1 s', '75 s', '1,030 h')
    """
    if not isfinite(value):
        return count(value)
    for below, unit, name in ((1e-3, 1e-6, "µs"), (1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min")):
        if float(f"{value:.3g}") < below:
            return f"{count(value / unit)} {name}"
    return f"{count(value / 3600)} h"


def node_time(hours: float) -> str:
    """Nodes x time, in the unit that reads best.

    >>> node_time(0.0005), node_time(3.217)
    ('1.8 node-seconds', '3.22 node-hours')
    """
    if not isfinite(hours):
        return count(hours)
    unit, name = (3600.0, "node-seconds") if hours < 0.05 else (1.0, "node-hours")
    return f"{count(hours * unit)} {name}"


def interval(found: Estimate | Range, write: Writer = count, join: str = " to ") -> str:
    """Both ends, their unit once; an open one is named.

    >>> interval(Estimate(0.18, 0.16, 0.21, 0.95, 20, ""), percent)
    '16 to 21 %'
    """
    if found.low == -inf and found.high == inf:
        return "not bounded"
    if found.high == inf:
        return f"above {write(found.low)}"
    if found.low == -inf:
        return f"below {write(found.high)}"
    low, high = write(found.low), write(found.high)
    unit = " " + high.partition(" ")[2]
    return f"{low.removesuffix(unit) if len(unit) > 1 else low}{join}{high}"


def figure(found: Estimate, write: Writer = count) -> str:
    """The estimate with its interval and n.

    >>> figure(Estimate(-0.97, -1.05, -0.9, 0.95, 20, ""), ratio)
    '-0.97 (95 % interval -1.05 to -0.90, n = 20)'
    """
    if found.n == 1:
        return f"{write(found.estimate)} (single run)"
    told = f"{100 * found.level:g} % interval {interval(found, write)}"
    return f"{write(found.estimate)} ({told}, n = {found.n:,})"


def through(found: Estimate, function: Callable[[float], float]) -> Estimate:
    """The estimate carried through a monotone function, its interval with it.

    >>> through(Estimate(-1.0, -2.0, -0.5, 0.95, 20, ""), lambda b: 1 - 2**b).low
    0.2928932188134524
    """
    low, high = sorted((function(found.low), function(found.high)))
    return replace(found, estimate=function(found.estimate), low=low, high=high)


def listed(names: list[str], most: int = 5) -> str:
    """Names in a row, cut where there are many.

    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most:,} more"
