"""Who holds a run up: judged from what each rank last said of itself."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hvd_adam.training.heartbeat import OVER, silent_after

WAITING = ("wait", "step")  # phases in which a rank waits for the others
SLOW = 1.5  # times the median of all ranks
OWN_WORK = ("data", "forward", "backward")
ASTRAY = 5.0  # seconds that a clock may be off before that is worth a word


@dataclass(frozen=True)
class Verdict:
    """What was found, one line each; `stuck`: the run does not get on."""

    lines: tuple[str, ...]
    stuck: bool


def judge(beats: Sequence[dict[str, Any]], now: float) -> Verdict:
    """Names the ranks that are behind, silent or slow.

    Args:
        beats: of `training.heartbeat.look`.
        now: by the clock of the folder that they lie in.
    """
    verdict = _judge(beats, now)
    return Verdict((*verdict.lines, *_clocks(beats)), verdict.stuck)


def _judge(beats: Sequence[dict[str, Any]], now: float) -> Verdict:
    if not beats:
        return Verdict(("no rank has written where it stands",), True)
    if all(beat["phase"] in OVER for beat in beats):
        phases = sorted({beat["phase"] for beat in beats})
        return Verdict((f"the run is over: {' and '.join(phases)} at step {beats[0]['step']}",), False)
    silent = [beat for beat in beats if beat.get("silent") or now - beat["heard"] > silent_after(beat["interval"])]
    if len(silent) == len(beats):
        return Verdict(("no rank lives any more; the last that was heard:", *_who_was_first(beats, now)), True)
    if silent:
        return Verdict(tuple(f"{_name(beat)} is silent: {_where(beat, now)}" for beat in silent), True)
    standing = [beat for beat in beats if beat["quiet_seconds"] + now - beat["heard"] > 3 * beat["interval"]]
    if standing:
        return Verdict(tuple(_who_is_behind(beats, now)), True)
    lines = [f"all {len(beats)} ranks get on, at step {min(beat['step'] for beat in beats)}"]
    return Verdict((*lines, *_slow(beats)), False)


def _who_was_first(beats: Sequence[dict[str, Any]], now: float) -> list[str]:
    """Of ranks that have all ended: one that was stopped, or lost its node, wrote nothing while the others waited."""
    last = max(beat["heard"] for beat in beats)
    first = [beat for beat in beats if last - beat["heard"] > 2 * beat["interval"] + 1]
    return [f"{_name(beat)} fell silent first: {_where(beat, now)}" for beat in first] or _who_is_behind(beats, now)


def _who_is_behind(beats: Sequence[dict[str, Any]], now: float) -> list[str]:
    """A rank that was stopped wakes once more when it is killed, and writes that it waits like all others."""
    woken = [beat for beat in beats if beat.get("silent_seconds")]
    told = [f"{_name(beat)} was silent for {beat['silent_seconds']:.0f} s: {_where(beat, now)}" for beat in woken]
    last = min(beat["step"] for beat in beats)
    behind = [beat for beat in beats if beat["step"] == last]
    culprits = [beat for beat in behind if beat["phase"] not in WAITING] or (behind if len(behind) < len(beats) else [])
    culprits = [beat for beat in culprits if beat not in woken]
    if woken and not culprits:
        return told
    if not culprits:
        return [f"all ranks wait for each other in step {last}: look at the network between {_hosts(beats)}"]
    waiting = len(beats) - len(culprits) - len(woken)
    lines = [*told, *(f"{_name(beat)} is behind: {_where(beat, now)}" for beat in culprits)]
    return [*lines, f"{waiting} rank{'s wait' if waiting != 1 else ' waits'} for that"]


def _clocks(beats: Sequence[dict[str, Any]]) -> list[str]:
    """Hosts whose clocks are off: what their logs say of times is, too."""
    off = {beat["host"]: beat["ahead"] for beat in beats if abs(beat.get("ahead", 0.0)) > ASTRAY}
    side = {host: "ahead of" if seconds > 0 else "behind" for host, seconds in off.items()}
    return [f"the clock of {host} is {abs(off[host]):.0f} s {side[host]} the folder's" for host in off]


def _slow(beats: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for phase in OWN_WORK:
        median = statistics.median(beat["seconds"].get(phase, 0.0) for beat in beats)
        for beat in beats:
            took = beat["seconds"].get(phase, 0.0)
            if median > 0 and took > SLOW * median:
                lines.append(f"{_name(beat)} is slow in {phase}: {took / median:.1f} times the median of all ranks")
    return lines


def _name(beat: dict[str, Any]) -> str:
    return f"rank {beat['rank']} on {beat['host']}"


def _where(beat: dict[str, Any], now: float) -> str:
    since = beat["phase_seconds"] + now - beat["heard"]
    return f"in {beat['phase']} of step {beat['step']} for {since:.0f} s, last heard {now - beat['heard']:.0f} s ago"


def _hosts(beats: Sequence[dict[str, Any]]) -> str:
    return ", ".join(sorted({beat["host"] for beat in beats}))
