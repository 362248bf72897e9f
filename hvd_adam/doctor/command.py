"""The command: gathers, judges, prints, and returns the exit code."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict, replace

import click

from hvd_adam.doctor.checks import judge
from hvd_adam.doctor.environment import Environment
from hvd_adam.doctor.facts import Places, gather
from hvd_adam.doctor.findings import Finding
from hvd_adam.doctor.trial import ENGINES, try_engine
from hvd_adam.errors import ConfigError

FAULT = 4  # the exit code where a fault was found
SCHEMA = 1  # of --json; raised when a key is taken away or changes its meaning
PATIENCE_DEEP = 15.0  # seconds for other programs' answers where the user has asked to wait

_COLOURS = {"ok": "green", "note": "yellow", "fault": "red"}


def run_doctor(deep: bool = False, as_json: bool = False) -> int:
    """What `hvd-adam doctor [--run] [--json]` does.

    Args:
        deep: start two ranks with each engine, too.
        as_json: print one JSON object instead of lines.

    Returns:
        0, or 4 where a fault was found.

    Raises:
        ConfigError: `deep` inside a rank.
    """
    started = time.monotonic()
    env = examine(Places(), deep)
    findings = judge(env)
    seconds = time.monotonic() - started
    click.echo(as_document(env, findings, seconds) if as_json else as_text(findings, seconds, deep))
    return exit_code(findings)


def examine(places: Places, deep: bool) -> Environment:
    """The facts; with `deep` also those of two ranks for each engine, where an mpirun is there to start them."""
    if not deep:
        return gather(places)
    if "OMPI_COMM_WORLD_SIZE" in places.environ:
        raise ConfigError(
            "doctor --run, started by mpirun",
            "it starts two ranks of its own, and MPI starts none from inside a rank",
            "hvd-adam doctor --run, without mpirun in front",
        )
    env = gather(places, PATIENCE_DEEP)
    if env.mpi.mpirun is None:
        return env
    return replace(env, trials=tuple(try_engine(engine, places, env.job.nodes) for engine in ENGINES))


def exit_code(findings: list[Finding]) -> int:
    """4 where a fault is among them."""
    return FAULT if any(finding.level == "fault" for finding in findings) else 0


def as_text(findings: list[Finding], seconds: float, deep: bool) -> str:
    """A line for each finding, two more where there is something to do, and a summary."""
    lines = []
    for finding in findings:
        level = click.style(f"{finding.level:<5}", fg=_COLOURS[finding.level], bold=finding.level == "fault")
        lines.append(f"{level}  {finding.what}")
        lines += [f"       {part}" for part in (_sentence(finding.why), _cure(finding.cure)) if part]
    counts = Counter(finding.level for finding in findings)
    more = "" if deep else "  hvd-adam doctor --run also starts two ranks."
    numbers = f"{counts['ok']} ok, {_several(counts['note'], 'note')}, {_several(counts['fault'], 'fault')}"
    return "\n".join([*lines, "", f"{numbers} in {seconds:.1f} s.{more}"])


def as_document(env: Environment, findings: list[Finding], seconds: float) -> str:
    """The findings and the facts that they rest on, as JSON."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "exit_code": exit_code(findings),
            "seconds": round(seconds, 3),
            "findings": [asdict(finding) for finding in findings],
            "environment": asdict(env),
        },
        indent=1,
    )


def _sentence(text: str) -> str:
    return text and f"{text[0].upper()}{text[1:]}."


def _cure(text: str) -> str:
    return text and f"Cure: {text}"


def _several(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
