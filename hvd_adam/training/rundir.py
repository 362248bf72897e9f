"""The run directory: everything needed to run it again, and what came of it.

config.yaml        the resolved config             trace.jsonl   what happened, line by line
environment.json   each launch of this run         result.json   what came of it
checkpoints/       the newest two                  model.pt      the weights, for plain torch.load
lock               held by the job that trains     heartbeats/   where each rank stands
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from hvd_adam import config_file
from hvd_adam.comm.protocol import World
from hvd_adam.config import RunConfig, from_plain, identity
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.files import write_whole
from hvd_adam.optim.agreement import from_root
from hvd_adam.training.run_lock import LOCK

FINISHED = "result.json"


def open_run(world: World, config: RunConfig, asked: str | None, resume: bool) -> Path:
    """The folder of this run: rank 0 finds or makes it, all ranks learn of it, or of why not.

    Raises:
        ConfigError: it exists, and `resume` was not asked for; or it belongs to another config.
        RunError: it cannot be written.
    """
    return from_root(world, lambda: _find(config, asked, resume))


def _find(config: RunConfig, asked: str | None, resume: bool) -> Path:
    with _writing(asked or f"runs/{config.name}"):
        path = Path(asked) if asked is not None else _own(config, resume)
        path.mkdir(parents=True, exist_ok=True)
        if not all(_is_of_a_start(one) for one in path.iterdir()):
            _check_can_go_on(path, config, resume)
        return path


def keep_config(world: World, path: Path, config: RunConfig) -> None:
    """Writes down what a run begins or goes on with: only once it is held, or the folder may be another job's.

    Raises:
        RunError: it cannot be written.
    """

    def write() -> None:
        with _writing(path):
            write_whole(path / "config.yaml", config.to_yaml())

    from_root(world, write)


@contextmanager
def _writing(place: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"run directory {place}",
            f"it cannot be written: {error.strerror or error}",
            "name a folder that you may write with --run",
        ) from error


def _is_of_a_start(file: Path) -> bool:
    """What a start leaves that was killed before its config was whole: nothing has come of that run."""
    return file.name == LOCK or file.match(".config.yaml.*.new")


def _own(config: RunConfig, resume: bool) -> Path:
    base = Path("runs") / str(config.name)
    taken = sorted(base.glob(f"{config.identity()}-*"), key=_number)
    if resume and taken:
        return taken[-1]
    base.mkdir(parents=True, exist_ok=True)
    number = _number(taken[-1]) if taken else 0
    while True:
        number += 1
        path = base / f"{config.identity()}-{number}"
        with suppress(FileExistsError):  # another call has just taken it
            path.mkdir()
            return path


def _number(path: Path) -> int:
    last = path.name.rpartition("-")[2]
    return int(last) if last.isdigit() else 0


def _check_can_go_on(path: Path, config: RunConfig, resume: bool) -> None:
    if not resume:
        raise ConfigError(
            f"run directory {path}", "it exists, and a run never overwrites another", "add --resume, or name a new one"
        )
    if not (path / "config.yaml").is_file():
        raise ConfigError(f"run directory {path}", "it holds files, but no run", "name a run's folder, or a new one")
    refuse_foreign(identity(from_plain(config_file.read(path / "config.yaml"))), config, f"run directory {path}")


def refuse_foreign(saved: dict[str, Any], config: RunConfig, what: str) -> None:
    """Raises ConfigError, naming the keys, where a config is not the one that `saved` says.

    Facts of the launch do not count, and a longer budget is allowed unless a schedule knows T.
    """
    mine = identity(config)
    keys = [key for key in {**saved, **mine} if saved.get(key) != mine.get(key)]
    if set(keys) <= {"steps", "epochs"} and not _knows_horizon(config):
        keys = [key for key in keys if _shorter(saved.get(key), mine.get(key))]
    if keys:
        listed = ", ".join(f"{key} {_say(saved, key)} there, {_say(mine, key)} here" for key in sorted(keys)[:5])
        raise ConfigError(what, f"it belongs to another config: {listed}", "give the same config, or start a new run")


def _say(values: dict[str, Any], key: str) -> str:
    return str(values[key]) if key in values else "not set"


def _shorter(there: Any, here: Any) -> bool:
    return there is not None and (here is None or here < there)


def _knows_horizon(config: RunConfig) -> bool:
    member = config.member()
    return any(schedule.needs_horizon for schedule in (member.alpha, member.beta, member.theta))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a small file whole or not at all; nan and inf as text, as in the trace.

    Raises:
        RunError: it cannot be written.
    """
    with written(path):
        write_whole(path, json.dumps(plain(content), indent=1, allow_nan=False) + "\n")


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Inside, a file of the run is written.

    Raises:
        RunError: it cannot be.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch puts a RuntimeError around what the system says
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        raise RunError(
            f"{path}",
            f"it cannot be written: {getattr(cause, 'strerror', None) or str(cause).splitlines()[0]}",
            "free the disk or open the folder, and add --resume",
        ) from error


def write_environment(path: Path, launch: dict[str, Any]) -> None:
    """Adds a launch to environment.json."""
    file = path / "environment.json"
    launches = mapping(file).get("launches")
    write_json(file, {"launches": [*(launches if isinstance(launches, list) else []), launch]})


def mapping(file: Path) -> dict[str, Any]:
    """What a small file says; nothing where it is missing or damaged."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def save_weights(path: Path, model: torch.nn.Module) -> None:
    """model.pt: a state_dict on the CPU that torch.load(weights_only=True) reads.

    Raises:
        RunError: it cannot be written.
    """
    fresh = path / f".model.{os.getpid()}.new"
    with written(path / "model.pt"):
        try:
            with fresh.open("wb") as file:  # a file of Python's, so that the system's own words are kept
                torch.save({name: value.detach().cpu() for name, value in model.state_dict().items()}, file)
            fresh.replace(path / "model.pt")
        finally:
            fresh.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """JSON has no nan and no inf: they become the strings "nan", "inf" and "-inf"."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def number_again(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: number_again(inner) for key, inner in value.items()}
    return float(value) if value in ("nan", "inf", "-inf") else value
