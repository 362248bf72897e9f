"""hvd-adam study report | compare | check | export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("report")
@click.argument("folder")
@click.option("--format", "form", type=click.Choice(["html", "md", "json"]), default="html", show_default=True)
@click.option(
    "--to",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Where it goes; FOLDER/report.html (md, json) by default, - for the terminal.",
)
@click.option("--figures", metavar="DIR", help="Also write each picture as an SVG file into DIR.")
def study_report(folder: str, form: str, to: str | None, figures: str | None) -> None:
    """Say what the study in FOLDER has shown, and write a report of it."""
    from hvd_adam.study.report import draw, linked, report, write

    made = _analysis(folder)
    if to == "-":
        if figures:
            draw(made, Path(figures))
        click.echo(report(made, form, linked(Path(figures), Path()) if figures else None), nl=False)
        return
    path = Path(to) if to else Path(folder) / f"report.{form}"
    written = write(made, path, form, Path(figures) if figures else None)
    _say(made)
    click.echo(f"the report is in {written[0]}" + (f", {len(written) - 1} pictures in {figures}" if figures else ""))


def _analysis(folder: str) -> Any:
    from hvd_adam.study.analysis import analyse
    from hvd_adam.study.folder import Folder

    return analyse(Folder(Path(folder)))


def _say(made: Any) -> None:
    """The verdict, on the terminal."""
    import textwrap

    from hvd_adam.study.verdict import LEAD, WARNING, verdict
    from hvd_adam.terminal import columns

    for sentence in verdict(made):
        mark = {LEAD: "", WARNING: "note: "}.get(sentence.tone, "  ")
        click.echo(textwrap.fill(sentence.text, columns(), initial_indent=mark, subsequent_indent="  "))


@click.command("check")
@click.argument("folder")
def study_check(folder: str) -> None:
    """Hold the study in FOLDER to its expect: exit code 0 met, 5 not met, 6 not enough evidence."""
    import sys

    from hvd_adam.study.gate import EXIT, gate, outcome

    found = gate(_analysis(folder))
    for judgement in found:
        click.echo(str(judgement))
    said = outcome(found)
    click.echo(f"{folder}: {said}")
    sys.exit(EXIT[said])


@click.command("compare")
@click.argument("a")
@click.argument("b")
@click.option(
    "--gate",
    is_flag=True,
    help="Exit code 5 where B needs more steps in all or some cells, or reaches less often; 6 where unknown.",
)
def study_compare(a: str, b: str, gate: bool) -> None:
    """Say whether the study in B needs more or fewer steps than that in A, cell by cell, paired by seed."""
    import sys

    from hvd_adam.study.comparison import compared, lines

    found = compared(_analysis(a), _analysis(b))
    for line in lines(found):
        click.echo(line)
    if gate:
        sys.exit(5 if found.is_worse else 6 if found.is_unknown else 0)


@click.command("export")
@click.argument("folder")
@click.option("--format", "form", type=click.Choice(["csv", "tensorboard"]), default="csv", show_default=True)
@click.option("--to", metavar="DIR", help="FOLDER/export by default.")
def study_export(folder: str, form: str, to: str | None) -> None:
    """Write the study in FOLDER as CSV tables, or its curves as TensorBoard event files."""
    from hvd_adam.study.export import write_csv, write_events

    path = Path(to) if to else Path(folder) / "export"
    made = _analysis(folder)
    if form == "csv":
        click.echo("\n".join(str(file) for file in write_csv(made, path)))
    else:
        click.echo(f"curves of {len(write_events(made, path)):,} runs are in {path}: tensorboard --logdir {path}")


COMMANDS = (study_report, study_compare, study_check, study_export)
