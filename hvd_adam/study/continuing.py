"""Whether a study may go on in its folder: results of two configs cannot be told apart afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hvd_adam import config_file
from hvd_adam.config import from_plain, identity
from hvd_adam.errors import ConfigError
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Plan, Run, plan

NAMED = 5  # cells that a message lists


def refuse_other(study: StudyConfig, made: Plan, folder: Folder) -> None:
    """Refuses a study that differs from what lies in its folder. More cells and more seeds are welcome.

    Raises:
        ConfigError: another study lies there; a cell's config or the budget of seconds has changed since runs were
            made; runs that lie there are no longer part of the study.
    """
    if not folder.holds_study():
        return
    there = folder.study()
    if there.name != study.name or there.mode != study.mode:
        raise ConfigError(
            f"study folder {folder.path}",
            f"another study lies there: {there.name}, in {there.mode} mode",
            "name another folder with --folder",
        )
    changed = list(_changed(made, folder))
    if changed:
        cells = _listed(run.cell for run, _ in changed)
        raise ConfigError(
            f"{len(changed)} runs in {folder.path} were made with another config: {cells}",
            f"results of two configs cannot be told apart afterwards; in {changed[0][0].place} {changed[0][1]}",
            "give the changed study another name or --folder, or remove the folders of these cells",
        )
    was, now = (one.budget.seconds if one.budget else None for one in (there, study))
    if was != now and any(folder.result(run) for run in made.runs):
        raise ConfigError(
            f"budget.seconds was {was} for runs in {folder.path}, and is {now}",
            "a run that has ended is not made again, and its cell would have runs of two budgets",
            "put it back, give the changed study another name or --folder, or remove the folders of its runs",
        )
    known = {run.place for run in made.runs}
    before = plan(there, folder.picks())
    gone = [run for run in before.runs if run.place not in known and folder.of(run).is_dir()]
    if gone:
        raise ConfigError(
            f"{len(gone)} runs in {folder.path} are no longer in the study: {_listed(run.place for run in gone)}",
            "a result is not dropped because a study was changed after it was seen",
            "put these cells and seeds back, give the changed study another name, or remove their folders",
        )


def _changed(made: Plan, folder: Folder) -> Iterable[tuple[Run, str]]:
    for run in made.runs:
        path = folder.of(run)
        if not (path / "config.yaml").is_file():
            continue
        planned = from_plain(dict(run.config))
        if (folder.result(run) or {}).get("identity") == planned.identity():
            continue
        here, there = identity(planned), identity(from_plain(config_file.read(path / "config.yaml")))
        keys = sorted(key for key in {**here, **there} if here.get(key) != there.get(key))
        if keys:
            yield run, "; ".join(f"{key} was {_said(there, key)} and is {_said(here, key)}" for key in keys[:3])


def _said(values: dict[str, Any], key: str) -> str:
    return str(values[key]) if key in values else "not set"


def _listed(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more


def differing(planned: Run, present: Run | None) -> str:
    """In which keys a run is no longer the one that was planned; empty where it is the same."""
    if present is None:
        return "it is no longer part of the study"
    here, there = identity(from_plain(dict(present.config))), identity(from_plain(dict(planned.config)))
    keys = sorted(key for key in {**here, **there} if here.get(key) != there.get(key))
    return "; ".join(f"{key} was {_said(there, key)} and is {_said(here, key)}" for key in keys[:3])
