"""The checks: pure functions from an Environment to a Finding, or to None where the question does not arise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hvd_adam.doctor.checks import job, machine, mpi, software, storage, trials
from hvd_adam.doctor.environment import Environment
from hvd_adam.doctor.findings import Finding

__all__ = ["CHECKS", "Check", "judge"]

Check = Callable[[Environment], "Finding | tuple[Finding, ...] | None"]

CHECKS: tuple[Check, ...] = (
    *software.CHECKS,
    *mpi.CHECKS,
    *machine.CHECKS,
    *storage.CHECKS,
    *job.CHECKS,
    *trials.CHECKS,
)


def judge(env: Environment) -> list[Finding]:
    """What every check says, in order, each finding under its check's name."""
    findings: list[Finding] = []
    for check in CHECKS:
        said = check(env)
        several = said if isinstance(said, tuple) else () if said is None else (said,)
        findings += [replace(finding, check=check.__name__) for finding in several]  # type: ignore[attr-defined]
    return findings
