"""A task: what is trained. One small class; the registry finds ours by name and yours by path.

Importing this module imports no torch: names and options can be checked before anything is loaded.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hvd_adam.errors import ConfigError, HvdAdamError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

OURS = {
    "digits": "hvd_adam.tasks.digits:Digits",
    "mnist": "hvd_adam.tasks.mnist:Mnist",
    "fashion-mnist": "hvd_adam.tasks.mnist:FashionMnist",
    "cifar10": "hvd_adam.tasks.cifar:Cifar10",
    "cifar100": "hvd_adam.tasks.cifar:Cifar100",
    "folder": "hvd_adam.tasks.folder:Folder",
    "quadratic": "hvd_adam.tasks.synthetic:Quadratic",
    "toy": "hvd_adam.tasks.synthetic:Toy",
    "pseudo-huber": "hvd_adam.tasks.synthetic:PseudoHuber",
    "counterexample": "hvd_adam.tasks.counterexamples:Counterexample",
    "reddi": "hvd_adam.tasks.counterexamples:Reddi",
    "reddi-cycle": "hvd_adam.tasks.counterexamples:ReddiCycle",
}
_CLASSIFIERS = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "folder")
_SMOOTH = ("quadratic", "toy", "pseudo-huber")
MEMBERS = ("prepare", "model", "batch", "loss", "measures")


def measures_of(name: str) -> tuple[str, ...]:
    """What evaluations of one of our tasks measure; empty where only its first evaluation tells."""
    if name in _CLASSIFIERS:
        return "loss", "accuracy", "error", "train_loss"
    return ("loss", "objective", "gradient_norm", "mean_gradient_norm", "train_loss") if name in _SMOOTH else ()


class Task(Protocol):
    """What a task offers. Its constructor takes the options of the config as keywords.

    Attributes:
        train_size: training samples; 0 for an endless synthetic stream.
        test_size: test samples.
        target: the measure that a summary shows: "accuracy", "objective" or "loss".
    """

    train_size: int
    test_size: int
    target: str

    def prepare(self, root: Path) -> None:
        """Loads the data below `root`; never downloads. Raises DataError."""

    def model(self) -> torch.nn.Module:
        """A fresh model, from torch's current random state."""

    def batch(self, indices: np.ndarray, generator: torch.Generator, train: bool) -> tuple[Tensor, ...]:
        """These samples; whatever is random about them is drawn from `generator`."""

    def loss(self, model: torch.nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """The mean loss over the batch."""

    def measures(self, model: torch.nn.Module, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Sums over the batch, e.g. {"loss": ..., "accuracy": number correct}; divided by the count later."""


def get(name: str, **options: Any) -> Task:
    """The task `name`, ours or "package.module:Class", made with `options`.

    Raises:
        ConfigError: no such task, no such option, a value out of its range, or a class of yours that
            lacks a member; what your module raises while it is imported, or its class while it is made.
    """
    found = _imported(name, address(name))
    missing = [member for member in MEMBERS if not callable(getattr(found, member, None))]
    if missing:
        raise ConfigError(
            f"task: {name} has no {', '.join(missing)}",
            "training calls each of these",
            "add it; docs/tasks.md says what each must do",
        )
    _check_options(name, found, options)
    try:
        return found(**options)
    except HvdAdamError:
        raise
    except Exception as error:
        given = ", ".join(f"{option}: {value!r}" for option, value in options.items())
        raise ConfigError(
            f"task: {name}",
            f"it cannot be made with {given or 'no options'}: {_said(error)}",
            "correct the options beside the name, or that line",
        ) from error


def address(name: str) -> str:
    """The task's place, "package.module:Class"; imports nothing.

    Raises:
        ConfigError: it is none of our tasks, and not written as one of yours.
    """
    place = OURS.get(name, name)
    if ":" not in place:
        near = difflib.get_close_matches(name, OURS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"task: {name}",
            "there is no such task",
            f"{hint}choose one of {', '.join(OURS)}, or name your own as package.module:Class",
        )
    return place


def _imported(name: str, place: str) -> Any:
    module_name, _, class_name = place.partition(":")
    if name not in OURS and "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append("")  # a user's own file in the working directory, as python -m finds it
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise ConfigError(
            f"task: {name}",
            f"it cannot be imported: {error}",
            f"modules are looked for in {Path.cwd()} and on PYTHONPATH: correct the name or the path",
        ) from error
    except Exception as error:
        raise ConfigError(f"task: {name}", f"it cannot be imported: {_said(error)}", "correct that line") from error


def _said(error: Exception) -> str:
    """The exception, and the last line on its way that is no library's."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = ("<", *(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")))
    place = next((frame for frame in reversed(frames) if not frame.filename.startswith(libraries)), frames[-1])
    return f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"


def _check_options(name: str, found: Any, options: dict[str, Any]) -> None:
    known = inspect.signature(found).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    unknown = [option for option in options if option not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"task {name}: {', '.join(unknown)}",
            "it has no such option",
            f"{hint}it takes {', '.join(known) or 'none'}",
        )
    needed = [key for key, one in known.items() if one.default is one.empty and key not in options]
    if needed:
        raise ConfigError(
            f"task {name} without {', '.join(needed)}", "the option has no default", f"set {needed[0]} beside the name"
        )


def check_choice(option: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raises ConfigError unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        listed = ", ".join(map(str, allowed))
        raise ConfigError(f"{option}: {value}", "there is no such choice", f"choose one of {listed}")


def check_range(option: str, value: Any, low: float, high: float = float("inf")) -> None:
    """Raises ConfigError unless `value` is a finite number with low <= value <= high."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or value == float("inf"):
        upto = "finite" if high == float("inf") else f"at most {high:g}"
        raise ConfigError(f"{option}: {value!r}", "the value is outside its range", f"give at least {low:g}, {upto}")


def check_integer(option: str, value: Any, low: int) -> None:
    """Raises ConfigError unless `value` is an integer >= low."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ConfigError(f"{option}: {value!r}", "it is a whole number", f"set {option} to {low} or more")


def check_text(option: str, value: Any) -> None:
    """Raises ConfigError unless `value` is text."""
    if not isinstance(value, str):
        raise ConfigError(f"{option}: {value!r}", "it is text", f'write it in quotes: {option}: "{value}"')


def check_flag(option: str, value: Any) -> None:
    """Raises ConfigError unless `value` is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{option}: {value!r}", "it is either on or off", f"set {option}: true or false")
