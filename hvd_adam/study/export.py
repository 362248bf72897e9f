"""A study for other programs: tables as CSV, curves as TensorBoard's event files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hvd_adam.errors import ConfigError, RunError
from hvd_adam.study.analysis import Analysis
from hvd_adam.study.collect import Record
from hvd_adam.study.report.plain import plain

Row = Mapping[str, Any]


def write_csv(made: Analysis, to: Path) -> list[Path]:
    """Writes cells.csv, runs.csv, evaluations.csv and losses.csv into a folder; returns them.

    In theory mode a line of cells.csv is one batch at all its horizons, with the T that was found.

    Raises:
        RunError: the folder cannot be written.
    """
    content = plain(made)
    tables: dict[str, Iterable[Row]] = {
        "cells": (
            {"series": series["label"], **_flat({k: v for k, v in cell.items() if k != "step_seconds"})}
            for series in (*content["series"], *content["horizons"])
            for cell in series["cells"]
        ),
        "runs": content["runs"],
        "evaluations": _evaluations(made.records),
        "losses": _losses(made.records),
    }
    try:
        to.mkdir(parents=True, exist_ok=True)
        return [_table(to / f"{name}.csv", list(rows)) for name, rows in tables.items()]
    except OSError as error:
        raise RunError(f"folder {to}", f"it cannot be written: {error.strerror}", "name another with --to") from error


def _evaluations(records: Iterable[Record]) -> Iterator[Row]:
    for record in records:
        for step, measures in record.evaluations:
            yield {"run": record.run.place, "step": step, "samples": step * record.cell.batch, **measures}


def _losses(records: Iterable[Record]) -> Iterator[Row]:
    for record in records:
        for step, samples, loss in record.losses:
            yield {"run": record.run.place, "step": step, "samples": samples, "loss": loss}


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """One level: {"steps.estimate": ...}."""
    told: dict[str, Any] = {}
    for key, value in found.items():
        if isinstance(value, Mapping):
            told |= {f"{key}.{inner}": one for inner, one in _flat(value).items()}
        else:
            told[key] = value
    return told


def _table(path: Path, rows: list[Row]) -> Path:
    names = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_events(made: Analysis, to: Path) -> list[Path]:
    """Writes an event file for each run that has a curve, in a folder named like the run's.

    Raises:
        ConfigError: the tensorboard package is not installed.
        RunError: the folder cannot be written.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise ConfigError(
            "--format tensorboard without the tensorboard package",
            "it writes the event files",
            "install it: python -m pip install tensorboard",
        ) from error
    written = []
    for record in made.records:
        if not record.evaluations:
            continue
        place = to / record.run.place
        try:
            writer = EventFileWriter(str(place))
        except OSError as error:
            raise RunError(f"folder {to}", f"it cannot be written: {error}", "name another with --to") from error
        for step, measures in _curves(record):
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in measures.items()]
            writer.add_event(Event(step=step, wall_time=float(step), summary=Summary(value=values)))
        writer.close()
        written.append(place)
    return written


def _curves(record: Record) -> Iterator[tuple[int, Mapping[str, float]]]:
    for step, _, loss in record.losses:
        yield step, {"training/loss": loss}
    for step, measures in record.evaluations:
        yield step, {f"evaluation/{name}": value for name, value in measures.items()}
