"""hvd-adam bench scale | memory | study | start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hvd_adam.commands.bench_ending import keeping, tell
from hvd_adam.errors import ConfigError

_RANKS = click.option("-n", "--ranks", type=click.IntRange(1), default=2, show_default=True)


def out(name: str) -> Any:
    """The option that says where the figures go."""
    return click.option("--out", metavar="FILE", default=f"runs/bench/{name}.json", show_default=True, help="The JSON.")


def rounds_option(default: int) -> Any:
    """The option that says how often each is timed."""
    return click.option(
        "--rounds",
        type=click.IntRange(1),
        default=default,
        show_default=True,
        help="Turns of each; 5 give an interval.",
    )


@click.command()
@click.option("--model", "models", multiple=True, help="Several allowed. [lenet and resnet18]")
@click.option("--parameters", "sizes", multiple=True, help="1e6, 1000x10; several allowed. [1e4 to 1e8]")
@click.option("--ranks", default="1,2", show_default=True, help="Numbers of ranks.")
@click.option("--workers", default="1,2,4,8", show_default=True, help="Workers that each rank plays.")
@rounds_option(5)
@out("scale")
def scale(models: tuple[str, ...], sizes: tuple[str, ...], ranks: str, workers: str, rounds: int, out: str) -> None:
    """How a step grows with ranks, workers a rank and parameters; and the model of seconds that studies use."""
    from rich.console import Console

    from hvd_adam.bench import growth
    from hvd_adam.bench.names import known
    from hvd_adam.bench.surroundings import facts, save, warn
    from hvd_adam.bench.workloads import WORKLOADS, shapes_of

    chosen = models or ("lenet", "resnet18")
    for model in chosen:
        known("model", model, WORKLOADS)
    measured = sizes or ("1e4", "1e5", "1e6", "1e7", "1e8")
    for size in measured:
        shapes_of(size)
    many, played = counts("ranks", ranks), counts("workers", workers)
    tell(*warn(max(many)))
    path, where = Path(out), facts()

    def keep(found: growth.Growth) -> None:
        save(path, "bench scale", {**where, **found.to_plain(), "models_of_seconds": seconds_models(found)[1]})

    with keeping(path):
        found = growth.measure(chosen, measured, many, played, rounds, tell, keep)
    Console().print(growth.table(found))
    for line in seconds_models(found)[0]:
        click.echo(line)
    click.echo(f"n = {rounds} rounds in random order: medians, and 95 % bootstrap intervals. All of it: {path}")


def seconds_models(found: Any) -> tuple[list[str], dict[str, Any]]:
    """The model of seconds a step that studies predict with, fitted to each workload: sentences, and plain values."""
    from hvd_adam.bench.workloads import WORKLOADS
    from hvd_adam.study.seconds import Timing
    from hvd_adam.study.step_time import StepTime

    said, plain = [], {}
    for model in dict.fromkeys(p.model for p in found.points if p.model in WORKLOADS):
        timings = [
            Timing(f"{p.ranks} ranks, {p.workers} workers each", p.samples, p.ranks, turn, seconds)
            for p in found.points if p.model == model for turn, seconds in enumerate(p.seconds)
        ]  # fmt: skip
        if len({timing.nodes for timing in timings}) < 2:
            continue
        fitted = StepTime(timings)
        every, sample, message, transfer = (1e3 * c for c in fitted.coefficients)
        plain[model] = {"coefficients": list(fitted.coefficients), "largest_error": fitted.error}
        said.append(
            f"{model}: {every:.3g} ms a step + {sample:.3g} ms a sample + {message:.3g} ms x 2 (n - 1) "
            f"+ {transfer:.3g} ms x 2 (n - 1) / n; largest error {100 * fitted.error:.0f} %"
        )
    return said, plain


@click.command()
@click.option("--model", "models", multiple=True, help="Or 1e8; several allowed. [resnet18, transformer, 1e8]")
@_RANKS
@rounds_option(5)
@out("memory")
def memory(models: tuple[str, ...], ranks: int, rounds: int, out: str) -> None:
    """Peak memory of a step of ours, beside parameters, gradients, two moments and activations."""
    from rich.console import Console

    from hvd_adam.bench import memory as held
    from hvd_adam.bench.surroundings import facts, save, warn
    from hvd_adam.bench.workloads import workload

    chosen, path, where = models or ("resnet18", "transformer", "1e8"), Path(out), facts()
    for model in chosen:
        workload(model)
    tell(*warn(ranks))
    done: list[held.Held] = []
    with keeping(path):
        for model in chosen:
            why = held.fits(model, ranks)
            if why:
                tell(f"{model}: left out, {why}")
                continue
            done.append(held.measure(model, ranks, rounds, tell))
            save(path, "bench memory", {**where, "ranks": ranks, "held": [one.to_plain() for one in done]})
    Console().print(held.table(done))
    click.echo(f"n = {rounds} jobs of {ranks} ranks each. All of it: {path}")


@click.command()
@click.argument("config", default="configs/studies/digits.yaml")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@rounds_option(5)
@out("study")
def study(config: str, overrides: tuple[str, ...], rounds: int, out: str) -> None:
    """Runs an hour of the study in CONFIG, beside launching each of its runs by itself."""
    from hvd_adam.bench import throughput
    from hvd_adam.bench.surroundings import facts, save, warn
    from hvd_adam.study.config import load

    load(config, overrides)
    path, where = Path(out), facts()
    tell(*warn(1))

    def keep(found: throughput.Throughput) -> None:
        save(path, "bench study", {**where, **found.to_plain()})

    with keeping(path):
        found = throughput.measure(config, overrides, rounds, tell, keep)
    for line in throughput.lines(found):
        click.echo(line)
    click.echo(f"n = {rounds} rounds. All of it: {path}")


@click.command()
@_RANKS
@rounds_option(5)
@out("start")
def start(ranks: int, rounds: int, out: str) -> None:
    """Seconds from the launch of some ranks to the end of their first step, beside importing torch alone."""
    from hvd_adam.bench import starting
    from hvd_adam.bench.surroundings import facts, save, warn

    path, where = Path(out), facts()
    tell(*warn(ranks))

    def keep(found: starting.Starting) -> None:
        save(path, "bench start", {**where, **found.to_plain()})

    with keeping(path):
        found = starting.measure(ranks, rounds, tell, keep)
    for line in starting.lines(found):
        click.echo(line)
    click.echo(f"n = {rounds} rounds in random order. All of it: {path}")


def counts(kind: str, text: str) -> list[int]:
    """Whole numbers above zero, separated by commas.

    Raises:
        ConfigError: other words.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() and int(word) for word in words):
        raise ConfigError(f"{kind}: {text}", "they are whole numbers above zero", "write for instance 1,2,4")
    return sorted({int(word) for word in words})


COMMANDS = (scale, memory, study, start)
