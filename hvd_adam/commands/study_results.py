"""hvd-adam study report | compare | check | export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("report")
@click.argument("folder")
@click.option("--format", "form", type=click.Choice(["html", "md", "json"]), default="html", show_default=True)
@click.option(
    "--to", metavar="FILE", help="Where it goes; FOLDER/report.html (md, json) by default, - for the terminal."
)
@click.option("--figures", metavar="DIR", help="Also write each picture as an SVG file into DIR.")
def study_report(folder: str, form: str, to: str | None, figures: str | None) -> None:
    """Say what the study in FOLDER has shown, and write a report of it."""
    from hvd_adam.study.report import report, write

    made = _analysis(folder)
    if to == "-":
        click.echo(report(made, form, figures), nl=False)
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

    for sentence in verdict(made):
        mark = {LEAD: "", WARNING: "note: "}.get(sentence.tone, "  ")
        click.echo(textwrap.fill(sentence.text, 100, initial_indent=mark, subsequent_indent="  "))


COMMANDS = (study_report,)
