"""Writes a study's report: a page, a text or plain data, and the pictures as files."""

from __future__ import annotations

import json
from pathlib import Path

from hvd_adam.errors import RunError
from hvd_adam.study.analysis import Analysis
from hvd_adam.study.pictures import pictures
from hvd_adam.study.report.document import document
from hvd_adam.study.report.markdown import markdown
from hvd_adam.study.report.page import page
from hvd_adam.study.report.plain import plain

FORMATS = ("html", "md", "json")


def report(made: Analysis, form: str, figures: str | None = None) -> str:
    """The report's text in one of `FORMATS`."""
    if form == "json":
        return json.dumps(plain(made), indent=1, allow_nan=False) + "\n"
    blocks = document(made)
    return page(blocks) if form == "html" else markdown(blocks, figures)


def write(made: Analysis, path: Path, form: str, figures: Path | None = None) -> list[Path]:
    """Writes the report, and each picture as a file of its own where `figures` names a folder; returns the files.

    Raises:
        RunError: a place cannot be written.
    """
    written = [path]
    try:
        if figures is not None:
            figures.mkdir(parents=True, exist_ok=True)
            for picture in pictures(made):
                written.append(figures / f"{picture.name}.svg")
                written[-1].write_text(picture.file, encoding="utf-8")
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(report(made, form, figures.name if figures else None), encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise RunError(f"report {path}", f"it cannot be written: {error.strerror}", "name another with --to") from error
    return written
