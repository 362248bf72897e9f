"""Where a study's runs are on the cluster: queued, running, requeued, failed; by the allocations that Slurm has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import ENDLESS, Plan
from hvd_adam.study.slurm import Queued
from hvd_adam.study.submit import standing
from hvd_adam.study.submitted import Element, Submitted

TAIL = 4096  # bytes at the end of a trace that are looked at for its last step


def lines(folder: Folder, made: Plan, queue: Sequence[Queued]) -> Iterator[str]:
    """One for each live allocation, and how many runs are where."""
    steps = {run.place: cell.steps for cell in (*made.tuning, *made.cells) for run in cell.runs}
    for element, at in Submitted(folder).elements(queue):
        if at is not None:
            yield _line(folder, element, at, steps)
    found = standing(folder.study(), made, folder, queue)
    told = [f"{len(found.live)} queued or running", f"{len(found.failed)} failed", f"{len(found.missing)} missing"]
    yield f"on the cluster: {', '.join(told)}; {len(found.fresh)} never submitted"


def _line(folder: Folder, element: Element, one: Queued, steps: dict[str, int]) -> str:
    runs = f"{len(element.runs)} runs from {element.runs[0]} on" if len(element.runs) > 1 else element.runs[0]
    again = f", queued again {one.restarts} times" if one.restarts else ""
    if one.state != "RUNNING":
        kind = "requeued" if one.restarts else "queued"
        return f"job {one.name} {kind} ({one.state}: {one.reason}{again}): {runs}"
    return f"job {one.name} running on {one.nodes}{again}: {runs}{_now(folder, element, steps)}"


def _now(folder: Folder, element: Element, steps: dict[str, int]) -> str:
    """How far its present run is: step, loss, and seconds until its budget ends, at the pace so far."""
    with suppress(OSError, ValueError):
        path = (element.folder(folder) / "now").resolve(strict=True)
        place = str(path.relative_to(folder.path.resolve()))
        step = last_step(path / "trace.jsonl")
        if step is None:
            return f"; now {place}, starting"
        total = steps.get(place, ENDLESS)
        of = "" if total >= ENDLESS else f" of {total:,} at most"
        pace = sum(step.get("seconds", {}).values())
        left = f", at most {pace * (total - step['step']):,.0f} s left beside evaluations"
        left = "" if total >= ENDLESS or not pace else left
        return f"; now {place}, step {step['step']:,}{of}, loss {float(step['loss']):.4g}{left}"
    return ""


def last_step(trace: Path) -> dict[str, Any] | None:
    """The last line of a trace that tells of a step, among the last `TAIL` bytes."""
    with trace.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - TAIL))
        for line in reversed(file.read().split(b"\n")):
            with suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict) and found.get("kind") == "step":
                    return found
    return None
