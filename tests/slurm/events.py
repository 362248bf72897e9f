"""What the rank 0 of a disturbed run has noted of itself: see faults/sitecustomize.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Events:
    """Begins and ends of steps, evaluations and checkpoint writes, in the order of time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, after: float = 0.0) -> list[dict[str, Any]]:
        """All whole lines since a moment."""
        text = self.path.read_text() if self.path.exists() else ""
        found = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [event for event in found if event["time"] > after]

    def steps_made(self, after: float = 0.0) -> int:
        """In how many a step has ended since then."""
        return sum((event["what"], event["edge"]) == ("step", "end") for event in self.read(after))

    def under_way(self, after: float) -> list[str]:
        """What has begun since then and not ended: start-up, where nothing has begun."""
        found = self.read(after)
        last = {event["what"]: event for event in found}
        return sorted(what for what, event in last.items() if event["edge"] == "begin") if found else ["start-up"]

    def lives(self) -> list[list[dict[str, Any]]]:
        """The lines of each process that was rank 0."""
        found: list[list[dict[str, Any]]] = []
        for event in self.read():
            if not found or found[-1][0]["pid"] != event["pid"]:
                found.append([])
            found[-1].append(event)
        return found

    def last_step(self, before: float) -> int:
        """The highest step that was made until then by the start of that time."""
        steps = [event for event in self.read() if (event["what"], event["edge"]) == ("step", "end")]
        return max((event["step"] for event in steps if event["time"] < before), default=0)


def of(found: list[dict[str, Any]], what: str, edge: str) -> list[dict[str, Any]]:
    """Those of one kind."""
    return [event for event in found if (event["what"], event["edge"]) == (what, edge)]


def highest(life: list[dict[str, Any]]) -> int:
    """The last step that was made."""
    return max((event["step"] for event in of(life, "step", "end")), default=0)


def cut(life: list[dict[str, Any]]) -> tuple[bool, int]:
    """Whether a write was left unfinished, and how many steps were made beside it."""
    writes = [event for event in life if event["what"] == "write"]
    if not writes or writes[-1]["edge"] == "end":
        return False, 0
    return True, sum(event["time"] > writes[-1]["time"] for event in of(life, "step", "end"))
