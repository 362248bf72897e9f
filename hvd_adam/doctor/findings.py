"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict of the doctor.

    Args:
        level: "ok"; "note" (works, but a person may want to know); "fault" (something will not work).
        what: what was found, with the values.
        why: why that matters; empty where the level is ok.
        cure: what to change, a command where there is one; empty where the level is ok.
        check: the name of the check that said it.
    """

    level: Level
    what: str
    why: str = ""
    cure: str = ""
    check: str = ""


def ok(what: str) -> Finding:
    """All is well, and this is what was found."""
    return Finding("ok", what)


def note(what: str, why: str, cure: str) -> Finding:
    """It works, and could work better or differently from what one may expect."""
    return Finding("note", what, why, cure)


def fault(what: str, why: str, cure: str) -> Finding:
    """It will not work: the doctor's exit code is 4."""
    return Finding("fault", what, why, cure)
