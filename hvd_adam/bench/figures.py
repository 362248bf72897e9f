"""The figures that the project is held to, read from what the benchmarks have kept; and whether they got worse.

Figures are ratios, which the load of the machine moves least; seconds are shown, never compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvd_adam.bench.names import BARE, EXACT, INSTALLED, LAUNCHER, OURS, PARTS
from hvd_adam.bench.ratios import Ratio, median, ratio
from hvd_adam.errors import ConfigError

Kept = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        what: both sides of the ratio; `of`: model, size, ...
        installed: with the peer as it is installed; None where there is no such difference.
        alike: with both in the environment that the launchers set, or where there is one environment alone.
        goal, goal_installed: the limit of each; None has none.
        more: larger is better.
        unit: "" of a ratio; "s" of seconds, which are not compared.
    """

    what: str
    of: str
    alike: Ratio
    goal: float | None
    installed: Ratio | None = None
    goal_installed: float | None = None
    more: bool = False
    unit: str = ""

    @property
    def name(self) -> str:
        """What it is called in a sentence."""
        return f"{self.what}, {self.of}" if self.of else self.what

    def met(self) -> bool | None:
        """Whether all its goals are; None without one."""
        pairs = ((self.alike, self.goal), (self.installed, self.goal_installed))
        held = [self._within(value.value, goal) for value, goal in pairs if value is not None and goal is not None]
        return all(held) if held else None

    def _within(self, value: float, goal: float) -> bool:
        return value >= goal if self.more else value <= goal


def figures(folder: Path) -> list[Figure]:
    """All figures that the JSON files in the folder hold, in the order of the table."""
    found: list[Figure] = []
    for kind, read in READERS.items():
        file = folder / f"{kind}.json"
        if file.is_file():
            found += read(_read(file, kind))
    return found


def _read(file: Path, kind: str) -> Kept:
    """
    Raises:
        ConfigError: it is not what `bench` has written.
    """
    try:
        kept = json.loads(file.read_text())
        if kept["kind"] == f"bench {kind}":
            return dict(kept)
    except (ValueError, KeyError, TypeError):
        pass
    raise ConfigError(str(file), f"it does not hold the figures of bench {kind}", f"hvd-adam bench {kind} --out {file}")


def _optimizer(kept: Kept) -> Iterator[Figure]:
    for one in kept["timings"]:
        found = {(row["peer"], row["surroundings"]): ratio(row["ours"], row["seconds"]) for row in one["rows"]}
        name = one["parameters"] + ("" if one["dtype"] == "float32" else f", {one['dtype']}")
        least = 0.25 if name == "resnet18" else None
        for peer, goal, goal_installed in (("fused", 1.05, 1.05), ("default", None, least)):
            alike, installed = (found.get((f"torch {peer}", where)) for where in (LAUNCHER, INSTALLED))
            if alike and installed:
                what = f"GenericAdam's step / torch's {peer} Adam"
                yield Figure(what, name, alike, goal, installed, goal_installed)


def _each(goal: float) -> dict[str, float]:
    return dict.fromkeys(("lenet", "resnet18", "transformer"), goal)


# peer -> (what, goals by model in the same environment, goals by model as installed)
_PEERS: dict[str, tuple[str, dict[str, float], dict[str, float]]] = {
    "horovod": ("stock Horovod + default Adam", {}, {"lenet": 0.60, "resnet18": 0.45, "transformer": 0.60}),
    "horovod-fused": ("stock Horovod + fused Adam", {}, {}),
    "horovod-tuned": ("stock Horovod + fused Adam, tuned", _each(0.85), {}),
    "ddp": ("DDP over gloo + default Adam", {}, {}),
    "ddp-fused": ("DDP over gloo + fused Adam", _each(0.80), _each(0.65)),
    "ddp-mpi": ("DDP over MPI + fused Adam", {}, {}),
    "hvd_adam-horovod": ("ours with all sums by Horovod", {}, {}),
    "hvd_adam-mpi": ("ours with all sums by plain MPI", {}, {}),
    PARTS: ("(bare + raw exchange + fused step)", _each(1.05), {}),
}


def _step(kept: Kept) -> Iterator[Figure]:
    for name, times in _comparisons(kept):
        ours = times.get((OURS, LAUNCHER))
        if not ours:
            continue
        for peer, (what, alike, installed) in _PEERS.items():
            theirs, plain = times.get((peer, LAUNCHER)), times.get((peer, INSTALLED))
            if theirs:
                as_installed = ratio(ours, plain) if plain else None
                yield Figure(
                    f"training step / {what}",
                    name,
                    ratio(ours, theirs),
                    alike.get(name),
                    as_installed,
                    installed.get(name),
                )
        if exact := times.get((EXACT, LAUNCHER)):
            yield Figure("exact mode / default mode", name, ratio(exact, ours), 1.5)


def _comparisons(kept: Kept) -> Iterator[tuple[str, dict[tuple[str, str], list[float]]]]:
    """What was trained, and the seconds of a step by peer and surroundings."""
    for one in kept["comparisons"]:
        precision = one.get("dtype", "float32")
        times = {(row["peer"], row["surroundings"]): row["seconds"] for row in one["rows"]}
        yield one["model"] + ("" if precision == "float32" else f", {precision}"), times


def limits(folder: Path) -> str:
    """Markdown: a row for each goal beside a peer: ours, the parts of a step, and forward and backward alone.

    Each in our launcher's environment, to the peer's step. "" where no step with such a goal is kept.
    """
    if not (folder / "step.json").is_file():
        return ""
    lines = ["| of | beside | goal | ours | the parts | bare |", "|---|---|---|---|---|---|"]
    goals = [
        (f"{what}, {shown}", (peer, where), by_model)
        for peer, (what, alike, installed) in _PEERS.items()
        for shown, where, by_model in (("same environment", LAUNCHER, alike), ("as installed", INSTALLED, installed))
        if peer != PARTS
    ]
    for name, times in _comparisons(_read(folder / "step.json", "step")):
        mine = [times.get((peer, LAUNCHER)) for peer in (OURS, PARTS, BARE)]
        for beside, peer, by_model in goals:
            theirs = times.get(peer)
            if theirs and name in by_model:
                ratios = (_cell(ratio(seconds, theirs) if seconds else None, "") for seconds in mine)
                lines.append(f"| {' | '.join((name, beside, f'<= {by_model[name]:.2f}', *ratios))} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _allreduce(kept: Kept) -> Iterator[Figure]:
    for text, times in kept["seconds"].items():
        size = int(text)
        raw = [way for way in times if way.startswith("raw ")]
        if size < 1 << 20 or not raw:
            continue
        best = min(raw, key=lambda way: median(times[way]).value)
        for way, what in (("shared in pieces", "our allreduce"), ("horovod in pieces", "our allreduce, by Horovod")):
            if way in times:
                what = f"{what} / best raw MPI_Allreduce"
                yield Figure(what, f"{size >> 20} MB", ratio(times[way], times[best]), 1.05)


def _memory(kept: Kept) -> Iterator[Figure]:
    from hvd_adam.bench.memory import Held

    for one in kept["held"]:
        found = Held(one["model"], tuple(one["ours"]), tuple(one["bare"]))
        yield Figure("peak memory / (4 x parameters + activations)", found.model, found.ratio, 1.10)


def _start(kept: Kept) -> Iterator[Figure]:
    times = kept["seconds"]
    yield Figure("`hvd-adam --help`", "", median(times["hvd-adam --help"]), 0.3, unit="s")
    yield Figure("`hvd-adam check`", "", median(times["hvd-adam check"]), 1.0, unit="s")
    found = ratio(times["launch to first step"], times["import torch"])
    yield Figure("launch to first step / import torch", f"{kept['ranks']} ranks", found, 2.0)


def _study(kept: Kept) -> Iterator[Figure]:
    name = f"{Path(kept['study']).stem}, {kept['runs']} runs"
    yield Figure("runs an hour / launching each run", name, ratio(kept["alone"], kept["in_study"]), 5.0, more=True)


def _scale(kept: Kept) -> Iterator[Figure]:
    from hvd_adam.bench.growth import growth_of

    for one in growth_of(dict(kept)).exponents():
        of = f"{one.of}, {one.ends[0]:,.0f} to {one.ends[1]:,.0f}"
        goal = None if one.against == "ranks" else 1.05
        yield Figure(f"exponent of a step against {one.against}", of, one.value, goal)


def _network(kept: Kept) -> Iterator[Figure]:
    for one in kept["measured"]:
        times, of = one["seconds"], f"{one['model']}, {one['network']}"
        slow = any(unit in one["network"] for unit in ("bit/s", "ms"))
        what = "two nodes: training step / (bare + raw exchange + fused step)"
        yield Figure(what, of, ratio(times[OURS], times[PARTS]), 1.0 if slow else None)
        by_horovod = times.get(f"{OURS}-horovod")
        if by_horovod:
            yield Figure(
                "two nodes: training step / ours with all sums by Horovod", of, ratio(times[OURS], by_horovod), None
            )
        yield Figure("two nodes: fp16 on the wire / float32", of, ratio(times[f"{OURS}-fp16"], times[OURS]), None)


READERS: dict[str, Callable[[Kept], Iterator[Figure]]] = {
    "optimizer": _optimizer,
    "step": _step,
    "allreduce": _allreduce,
    "memory": _memory,
    "start": _start,
    "study": _study,
    "scale": _scale,
    "network": _network,
    "crowded": _network,
}


def table(found: Sequence[Figure]) -> str:
    """Markdown: a row a figure, with its n and its goal."""
    lines = ["| figure | of | as installed | same environment | n | goal | met |", "|---|---|---|---|---|---|---|"]
    for one in found:
        goals = [(one.goal_installed, " as installed"), (one.goal, " same" if one.goal_installed is not None else "")]
        sign = ">=" if one.more else "<="
        goal = ", ".join(f"{sign} {limit:.2f}{where}" for limit, where in goals if limit is not None)
        met = {True: "yes", False: "**no**", None: ""}[one.met()]
        cells = [
            one.what,
            one.of,
            _cell(one.installed, ""),
            _cell(one.alike, one.unit),
            str(one.alike.rounds),
            goal,
            met,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# what a user asks first: in words, the figure, and whether the peer is as it is installed
_HEADLINES = (
    ("a training step / stock Horovod with torch's Adam, as installed",
     "training step / stock Horovod + default Adam", True),
    ("a training step / DDP over gloo with fused Adam, as installed",
     "training step / DDP over gloo + fused Adam", True),
    ("a training step / forward, backward, raw exchange and fused Adam, one after the other",
     "training step / (bare + raw exchange + fused step)", False),
    ("the optimizer's step / torch's fused Adam", "GenericAdam's step / torch's fused Adam", False),
    ("from the launch of 2 ranks to their first step / `import torch`", "launch to first step / import torch", False),
    ("runs an hour of a study / each run launched by itself", "runs an hour / launching each run", False),
)  # fmt: skip


def headlines(found: Sequence[Figure]) -> str:
    """Markdown: the six figures that a user asks for first, those that were measured."""
    lines = ["| figure | of | median (interval) | n |", "|---|---|---|---|"]
    for words, what, as_installed in _HEADLINES:
        for one in (one for one in found if one.what == what):
            value = one.installed if as_installed else one.alike
            if value is not None:
                lines.append(f"| {words} | {one.of} | {_cell(value, one.unit)} | {value.rounds} |")
                words = ""
    return "\n".join(lines)


def _cell(value: Ratio | None, unit: str) -> str:
    if value is None:
        return ""
    interval = "" if math.isnan(value.low) else f" ({value.low:.3g} to {value.high:.3g})"
    return f"{value.value:.3g}{' ' * bool(unit)}{unit}{interval}"


def worse(now: Sequence[Figure], recorded: Sequence[Figure]) -> list[str]:
    """Sentences on the ratios that got worse: the whole interval lies on the worse side of the recorded one.

    Figures that only one side has, those without intervals on both and seconds say nothing.
    """
    before = {(one.what, one.of): one for one in recorded}
    said = []
    for one in now:
        old = before.get((one.what, one.of))
        if old is None or one.unit:
            continue
        for where, new, was in (
            ("as installed", one.installed, old.installed),
            ("same environment", one.alike, old.alike),
        ):
            if new is not None and was is not None and _is_worse(new, was, one.more):
                said.append(f"{one.name}, {where}: {new}, recorded {was}")
    return said


def unmatched(now: Sequence[Figure], recorded: Sequence[Figure]) -> list[str]:
    """Names of the ratios that are not recorded, on which `worse` says nothing."""
    before = {(one.what, one.of) for one in recorded}
    return [one.name for one in now if not one.unit and (one.what, one.of) not in before]


def _is_worse(new: Ratio, old: Ratio, more: bool) -> bool:
    if math.isnan(new.low) or math.isnan(old.low):
        return False
    return new.high < old.low if more else new.low > old.high
