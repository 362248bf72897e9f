"""hvd-adam check of a study: every cell's schedules."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from hvd_adam.commands.check import StudyRequest, breaks_of, framed
from hvd_adam.errors import ConfigError


def check_study(request: StudyRequest, plot: Path | None, as_json: bool) -> int:
    """Prints the verdicts on a study, and returns the exit code: the worst one decides.

    Raises:
        ConfigError: --plot or --steps beside a study, or a study that cannot be used.
    """
    from hvd_adam.study.condition import judge, schedules, to_plain
    from hvd_adam.study.condition_report import screen
    from hvd_adam.study.config import load
    from hvd_adam.study.plan import plan

    _refuse_beside(request, plot)
    made = plan(load(request.path, request.overrides))
    found = schedules(made)
    judged = judge(found, partial(framed, framework=request.framework))
    if as_json:
        import json

        click.echo(json.dumps(to_plain(judged), indent=1))
    else:
        breaks = {breaks_of(one.config.task.name) for one in found}
        click.echo(screen(judged, request.path, breaks.pop() if len(breaks) == 1 else ""))
    return 0 if all(each.verdict.holds for each in judged) else 3


def _refuse_beside(request: StudyRequest, plot: Path | None) -> None:
    if plot is not None:
        raise ConfigError(
            f"--plot {plot} with study {request.path}",
            "its cells have schedules of their own, and a picture shows those of one run",
            "draw one of them: hvd-adam check --alpha EXPR --theta EXPR --plot FILE",
        )
    if request.steps is not None:
        raise ConfigError(
            f"--steps {request.steps[:40]} with study {request.path}",
            "a study says itself how long its runs are",
            "set its budget or horizons: budget.steps=5000",
        )
