"""Names of peers and of what surrounds them; what a name stands for, or the nearest that there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from hvd_adam.errors import ConfigError

INSTALLED, LAUNCHER = "as installed", "launcher's"  # a peer's environment
OURS, EXACT, BARE, PARTS = "hvd_adam", "hvd_adam-exact", "bare", "parts"
EMPTY = '""'  # how a message shows a name of no letters

Thing = TypeVar("Thing")


def job_name(peer: str, surroundings: str) -> str:
    """What the job of a peer is called."""
    return f"{peer} ({surroundings})"


def known(kind: str, name: str, things: Mapping[str, Thing]) -> Thing:
    """Return the model, the peer, ... of that name.

    Raises:
        ConfigError: there is none.
    """
    if name in things:
        return things[name]
    near = difflib.get_close_matches(name, things, n=1)
    cure = f"did you mean {near[0]}?" if near else f"choose from {', '.join(things)}"
    raise ConfigError(f"{kind}: {name or EMPTY}", f"bench knows no such {kind}", cure)


def listed(kind: str, text: str | None, things: Iterable[str]) -> list[str]:
    """Return the names in "one,another"; all that there are where nothing is said.

    Raises:
        ConfigError: there is none of that name.
    """
    every = dict.fromkeys(things, True)
    names = list(every) if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        known(kind, name, every)
    return names
