"""One tree of errors; each class carries the exit code that the command line returns.

An error a user can cause says three things, always: what was found, why it cannot work, what to change.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"(a|[a-z]{2,})(?=[\s,;.?'])|run:")  # not a symbol, a key or a command: r, lr:, v_0, hvd-adam


class HvdAdamError(Exception):
    """Base of every error that is meant for the user's eyes.

    Args:
        found: what was found, with the value.
        why: why that cannot work.
        cure: what to change; a command where one exists.

    The command line prints the three parts without a traceback and exits with `exit_code`.
    """

    exit_code = 1

    def __init__(self, found: str, why: str, cure: str) -> None:
        super().__init__(found, why, cure)
        self.found = found
        self.why = why
        self.cure = cure

    def __str__(self) -> str:
        return "\n  ".join((_sentence(self.found), _capital(_sentence(self.why)), _capital(_sentence(self.cure))))


class RunError(HvdAdamError):
    """A run failed while it was running: exit code 1."""


class DataError(RunError):
    """Data is missing, corrupt, or cannot be read: exit code 1."""


class ConfigError(HvdAdamError, ValueError):
    """A config, an argument or an expression cannot be used: exit code 2."""

    exit_code = 2


class ConditionError(HvdAdamError):
    """The sufficient condition is required and was not shown to hold: exit code 3."""

    exit_code = 3


class StoppedAtCheckpoint(HvdAdamError):
    """The run was asked to stop, saved itself, and wants to be started again: exit code 75."""

    exit_code = 75


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:] if _WORD.match(sentence) else sentence


def _sentence(part: str) -> str:
    part = part.strip()
    return part if part.endswith((".", "!", "?", ":")) else f"{part}."
