"""Writes a study's report: a page, a text or plain data, and the pictures as files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote

from hvd_adam.errors import RunError
from hvd_adam.study.analysis import Analysis
from hvd_adam.study.pictures import pictures
from hvd_adam.study.report.document import document
from hvd_adam.study.report.markdown import markdown
from hvd_adam.study.report.page import page
from hvd_adam.study.report.plain import plain

FORMATS = ("html", "md", "json")


def report(made: Analysis, form: str, figures: str | None = None) -> str:
    """The report's text in one of `FORMATS`; `figures`: see `linked`."""
    if form == "json":
        return json.dumps(plain(made), indent=1, allow_nan=False) + "\n"
    blocks = document(made)
    return page(blocks) if form == "html" else markdown(blocks, figures)


def write(made: Analysis, path: Path, form: str, figures: Path | None = None) -> list[Path]:
    """Writes the report, and each picture as a file of its own where `figures` names a folder; returns the files.

    Raises:
        RunError: a place cannot be written.
    """
    written = [path, *(draw(made, figures) if figures else [])]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(report(made, form, linked(figures, path.parent) if figures else None), encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise RunError(f"report {path}", f"it cannot be written: {error.strerror}", "name another with --to") from error
    return written


def draw(made: Analysis, figures: Path) -> list[Path]:
    """Writes each picture as a file of its own into a folder; returns the files.

    Raises:
        RunError: the folder cannot be written.
    """
    written = []
    try:
        figures.mkdir(parents=True, exist_ok=True)
        for picture in pictures(made):
            written.append(figures / f"{picture.name}.svg")
            written[-1].write_text(picture.file, encoding="utf-8")
    except OSError as error:
        why = f"it cannot be written: {error.strerror}"
        raise RunError(f"folder {figures}", why, "name another with --figures") from error
    return written


def linked(figures: Path, folder: Path) -> str:
    """The folder of pictures as a text in `folder` names it in a link."""
    return quote(Path(os.path.relpath(figures.resolve(), folder.resolve())).as_posix())
