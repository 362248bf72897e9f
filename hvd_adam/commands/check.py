"""hvd-adam check."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hvd_adam.errors import ConfigError

if TYPE_CHECKING:
    from hvd_adam.algorithms import Algorithm

DEFAULT_STEPS = 10**6
_UNBOUNDED = "this loss breaks A4: its gradient grows with |x|"
_KINKS = "ReLU and max-pooling have kinks: A2 fails there"
_BREAKS = {"pseudo-huber": "", "quadratic": _UNBOUNDED, "toy": _UNBOUNDED}


@click.command()
@click.argument("config", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--algorithm", metavar="NAME", help="A member of the family; its arguments by --lr, --beta, ... or --set."
)
@click.option("--lr", metavar="EXPR", help="Learning rate of the named member.")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Another argument of the named member.")
@click.option("--alpha", metavar="EXPR", help="alpha_t, the learning rate: an expression in t and T.")
@click.option("--theta", metavar="EXPR", help="theta_t, torch's beta2.")
@click.option("--beta", metavar="EXPR", help="beta_t, torch's beta1; 0.9 where nothing else says it.")
@click.option("--steps", metavar="T", help="Length of the run; 1e6 where nothing else says it.")
@click.option(
    "--framework",
    type=click.Choice(["torch", "paper"]),
    help="torch: bias correction, epsilon in the denominator. paper: neither, epsilon in v_0.",
)
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw chi_t, the ratio, theta_t: svg, png.",
)
@click.option("--json", "as_json", is_flag=True, help="The verdict as JSON.")
def check(as_json: bool, plot: Path | None, **given: Any) -> None:
    """Will it converge? Judge the schedules of CONFIG (a run or a study), of a named member, or expressions.

    Exit code 0: the sufficient condition holds, in a study for every cell. 3: not shown to hold. 2: usage.
    """
    from hvd_adam.theory.condition import check_algorithm, subject_of
    from hvd_adam.theory.report import screen

    request = _read(**given)
    if isinstance(request, StudyRequest):
        from hvd_adam.commands.check_study import check_study

        sys.exit(check_study(request, plot, as_json))
    verdict = check_algorithm(request.algorithm, request.steps)
    verdict = replace(verdict, notes=request.notes + verdict.notes)
    if plot:
        from hvd_adam.theory.picture import draw

        draw(verdict, subject_of(request.algorithm, request.steps).samples, plot)
    if as_json:
        import json

        click.echo(json.dumps(verdict.to_plain(), indent=1))
    else:
        click.echo(screen(verdict, request.title, request.breaks))
    sys.exit(0 if verdict.holds else 3)


@dataclass(frozen=True)
class _Request:
    algorithm: Algorithm
    steps: int
    title: str
    breaks: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyRequest:
    """A study to be judged; `steps` and `framework` as they were given."""

    path: str
    overrides: tuple[str, ...]
    steps: str | None
    framework: str | None


def _read(config: str | None, overrides: tuple[str, ...], **options: Any) -> _Request | StudyRequest:
    """What is to be judged, from one of the ways to say it."""
    settings = dict(_setting(text) for text in options.pop("settings"))
    steps, framework, name = options.pop("steps"), options.pop("framework"), options.pop("algorithm")
    given = {key: _value(key, text) for key, text in options.items() if text is not None}
    if sum((config is not None, name is not None, config is None and name is None and "alpha" in given)) != 1:
        raise ConfigError(
            "nothing to check" if config is None else f"{config} and --algorithm",
            "say one of: a config file, --algorithm NAME, or --alpha EXPR --theta EXPR",
            "for instance: hvd-adam check --algorithm adam --lr 1e-3",
        )
    if twice := sorted(given.keys() & settings.keys()):
        raise ConfigError(f"--{twice[0]} and --set {twice[0]}", "each says the same", "leave one out")
    if config is not None:
        if given or settings:
            raise ConfigError(
                f"{config} and --{next(iter({**given, **settings}))}",
                "a config says its own schedules",
                "override a key: algorithm.lr=0.01",
            )
        if _is_study(config):
            return StudyRequest(config, overrides, steps, framework)
        request = _from_config(config, overrides, steps)
    elif name is not None:
        from hvd_adam.algorithms import check_arguments, named

        check_arguments(name, {**given, **settings})
        said = "".join(f", {key} {value}" for key, value in {**given, **settings}.items())
        request = _Request(named(name, **given, **settings), _steps(steps), name + said)
    else:
        request = _Request(_generic(given, settings), _steps(steps), "schedules as given")
    return replace(request, algorithm=framed(request.algorithm, framework))


def _from_config(config: str, overrides: tuple[str, ...], steps: str | None) -> _Request:
    from hvd_adam.config import load

    run = load(config, overrides)
    length = run.steps if steps is None and run.steps else _steps(steps)
    member = run.member()
    notes = (_unknown_length(run.epochs),) if steps is None and run.epochs else ()
    return _Request(member, length, f"{config}: {member.name}", breaks_of(run.task.name), notes)


def _is_study(config: str) -> bool:
    from hvd_adam import config_file

    return "grid" in config_file.read(config)


def breaks_of(task: str) -> str:
    """What the loss of a task visibly does to the assumptions."""
    return _BREAKS.get(task, _KINKS)


def _unknown_length(epochs: int) -> str:
    plural = "epoch" if epochs == 1 else "epochs"
    return f"T = {DEFAULT_STEPS} is assumed: only the data tell how many steps {epochs} {plural} are; say --steps T"


def _generic(given: dict[str, Any], settings: dict[str, Any]) -> Algorithm:
    """The paper's algorithm with schedules as given."""
    from hvd_adam.algorithms import Algorithm
    from hvd_adam.schedules import as_schedule

    if "theta" not in given or "lr" in given or settings:
        raise ConfigError(
            "--alpha without --theta" if "theta" not in given else "--alpha with --lr or --set",
            "three schedules are judged: --alpha, --theta and --beta (0.9 by default)",
            'for instance --alpha "0.1/sqrt(t)" --theta "1 - 0.9/t"',
        )
    beta = given.get("beta", 0.9)
    return Algorithm("generic", as_schedule(given["alpha"]), as_schedule(beta), as_schedule(given["theta"]))


def framed(algorithm: Algorithm, framework: str | None) -> Algorithm:
    """The same schedules under another convention of bias correction and epsilon."""
    if framework is None:
        return algorithm
    if framework == "torch":
        return replace(algorithm, bias_correction=True, eps=algorithm.eps or 1e-8, eps_in="denominator", v0=0.0)
    return replace(algorithm, bias_correction=False, eps=0.0, eps_in="v0", v0=algorithm.eps or algorithm.v0)


def _setting(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ConfigError(f"--set {text}", "it is not of the form KEY=VALUE", "for instance --set r=0.5")
    return key.strip(), _value(key, value)


def _value(key: str, text: str) -> Any:
    """A number where it is one, else the text of an expression."""
    try:
        number = float(text)
    except ValueError:
        return text
    return int(text) if text.strip().lstrip("+-").isdigit() and key == "start" else number


def _steps(text: str | None) -> int:
    """T, a whole number; 1e6 is one."""
    if text is None:
        return DEFAULT_STEPS
    try:
        number = float(text)
        whole = int(text) if text.strip().isdigit() else int(number)
    except (ValueError, OverflowError):
        number, whole = float("nan"), 0
    if float(whole) != number:
        raise ConfigError(f"--steps {text[:40]}", "T is a whole number of steps", "for instance --steps 1e6")
    return whole
