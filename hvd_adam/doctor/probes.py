"""Asks other programs, all at the same time and with one deadline for all."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program printed (both streams), and its exit code: None where it did not end in time or is missing."""

    code: int | None
    text: str


def ask(commands: Mapping[str, Sequence[str]], environ: Mapping[str, str], seconds: float) -> dict[str, Answer]:
    """Runs all commands beside each other and returns their answers by name.

    A program that is still running after `seconds` is ended together with its children.
    """
    deadline = time.monotonic() + seconds
    running: dict[str, subprocess.Popen[str]] = {}
    answers: dict[str, Answer] = {}
    for name, command in commands.items():
        try:
            running[name] = subprocess.Popen(
                list(command),
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            answers[name] = Answer(None, str(error.strerror))
    for name, process in running.items():
        try:
            text, _ = process.communicate(timeout=max(0.01, deadline - time.monotonic()))
            answers[name] = Answer(process.returncode, text)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            answers[name] = Answer(None, f"no answer within {seconds:g} s")
    return answers
