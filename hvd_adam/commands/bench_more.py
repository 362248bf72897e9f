"""hvd-adam bench scale | memory | study | start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hvd_adam.commands.bench_ending import finish, keeping, outputs, tell
from hvd_adam.errors import ConfigError

_RANKS = click.option("-n", "--ranks", type=click.IntRange(1), default=2, show_default=True)


@click.command()
@click.option("--model", "models", multiple=True, help="Several allowed. [lenet and resnet18]")
@click.option("--parameters", "sizes", multiple=True, help="1e6, 1000x10; several allowed. [1e4 to 1e8]")
@click.option("--ranks", default="1,2", show_default=True, help="Numbers of ranks.")
@click.option("--workers", default="1,2,4,8", show_default=True, help="Workers that each rank plays.")
@outputs("scale", 5)
def scale(
    models: tuple[str, ...], sizes: tuple[str, ...], ranks: str, workers: str, rounds: int,
    out: Path, as_json: bool, plot: Path | None,
) -> None:  # fmt: skip
    """How a step grows with ranks, workers a rank and parameters; and the model of seconds that studies use."""
    from hvd_adam.bench import growth
    from hvd_adam.bench.names import known
    from hvd_adam.bench.ratios import medians
    from hvd_adam.bench.surroundings import facts, save, warn
    from hvd_adam.bench.workloads import WORKLOADS, shapes_of

    chosen = models or ("lenet", "resnet18")
    for model in chosen:
        known("model", model, WORKLOADS)
    measured = sizes or ("1e4", "1e5", "1e6", "1e7", "1e8")
    for size in measured:
        shapes_of(size)
    many, played = counts("ranks", ranks), counts("workers", workers)
    warnings = warn(max(many))
    where = {**facts(), "warnings": warnings}
    tell(*warnings)

    def keep(found: growth.Growth) -> None:
        save(out, "bench scale", {**where, **found.to_plain(), "models_of_seconds": seconds_models(found)[1]})

    with keeping(out):
        found = growth.measure(chosen, measured, many, played, rounds, tell, keep)
    said = [f"{name}: left out, {why}" for name, why in found.left_out.items()] + seconds_models(found)[0]
    said += [*warnings, f"n = {rounds} rounds in random order: {medians(rounds)}."]
    finish(out, as_json, plot, growth.table(found), *said)


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
@outputs("memory", 5)
def memory(models: tuple[str, ...], ranks: int, rounds: int, out: Path, as_json: bool, plot: Path | None) -> None:
    """Peak memory of a step of ours, beside parameters, gradients, two moments and activations."""
    from hvd_adam.bench import memory as held
    from hvd_adam.bench.surroundings import facts, save, warn
    from hvd_adam.bench.workloads import workload

    chosen, where = models or ("resnet18", "transformer", "1e8"), facts()
    for model in chosen:
        workload(model)
    tell(*warn(ranks))
    done: list[held.Held] = []
    left_out: dict[str, str] = {}

    def keep(*found: held.Held) -> None:
        kept = [one.to_plain() for one in (*done, *found)]
        save(out, "bench memory", {**where, "ranks": ranks, "held": kept, "left_out": left_out})

    with keeping(out):
        for model in chosen:
            if why := held.fits(model, ranks):
                left_out[model] = why
                tell(f"{model}: left out, {why}")
                keep()
            else:
                done.append(held.measure(model, ranks, rounds, tell, keep))
    said = [f"{model}: left out, {why}" for model, why in left_out.items()]
    finish(out, as_json, plot, held.table(done), *said, f"n = {rounds} jobs of {ranks} ranks each.")


@click.command()
@click.argument("config", default="configs/studies/digits.yaml")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@outputs("study", 5)
def study(config: str, overrides: tuple[str, ...], rounds: int, out: Path, as_json: bool, plot: Path | None) -> None:
    """Runs an hour of the study in CONFIG, beside launching each of its runs by itself."""
    from hvd_adam.bench import throughput
    from hvd_adam.bench.surroundings import facts, save, warn
    from hvd_adam.study.config import load

    load(config, overrides)
    where = facts()
    tell(*warn(1))

    def keep(found: throughput.Throughput) -> None:
        save(out, "bench study", {**where, **found.to_plain()})

    with keeping(out):
        found = throughput.measure(config, overrides, rounds, tell, keep)
    finish(out, as_json, plot, *throughput.lines(found), f"n = {rounds} rounds.")


@click.command()
@_RANKS
@outputs("start", 5)
def start(ranks: int, rounds: int, out: Path, as_json: bool, plot: Path | None) -> None:
    """Seconds from the launch of some ranks to the end of their first step, beside importing torch alone."""
    from hvd_adam.bench import starting
    from hvd_adam.bench.surroundings import facts, save, warn

    where = facts()
    tell(*warn(ranks))

    def keep(found: starting.Starting) -> None:
        save(out, "bench start", {**where, **found.to_plain()})

    with keeping(out):
        found = starting.measure(ranks, rounds, tell, keep)
    finish(out, as_json, plot, *starting.lines(found), f"n = {rounds} rounds in random order.")


def counts(kind: str, text: str) -> list[int]:
    """Whole numbers above zero, separated by commas.

    Raises:
        ConfigError: other words.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) for word in words):
        raise ConfigError(f"{kind}: {text}", "they are whole numbers above zero", "write for instance 1,2,4")
    return sorted({int(word) for word in words})


COMMANDS = (scale, memory, study, start)
