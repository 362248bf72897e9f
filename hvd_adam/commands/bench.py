"""hvd-adam bench step | allreduce | optimizer; the others are in bench_more."""

from __future__ import annotations

import click

from hvd_adam.commands.bench_ending import keeping, tell
from hvd_adam.commands.bench_more import COMMANDS
from hvd_adam.commands.group import NearestGroup


@click.group(cls=NearestGroup)
def bench() -> None:
    """Time this machine: the optimizer, the exchange, and a whole step beside what others would make of it."""


@bench.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    help="lenet, resnet18, transformer, 1e6, 1000x10. [first three]",
)
@click.option("--peers", help="Which, separated by commas; all by default. Ours is always among them.")
@click.option("-n", "--ranks", type=click.IntRange(1), default=2, show_default=True)
@click.option(
    "--rounds", type=click.IntRange(1), default=9, show_default=True, help="Turns of each; 5 give an interval."
)
@click.option("--samples", type=click.IntRange(1), help="Batch of a rank; the model's own by default.")
@click.option("--dtype", type=click.Choice(["float32", "float64", "bfloat16"]), default="float32", show_default=True)
@click.option("--turn", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Seconds, about.")
@click.option("--out", metavar="FILE", default="runs/bench/step.json", show_default=True, help="Where the figures go.")
def step(
    models: tuple[str, ...], peers: str | None, ranks: int, rounds: int, samples: int | None, dtype: str, turn: float,
    out: str,
) -> None:  # fmt: skip
    """A training step beside stock Horovod, DDP and bare compute, as installed and as the launchers start it."""
    from pathlib import Path

    from hvd_adam.bench import step as bench_step
    from hvd_adam.bench.names import known
    from hvd_adam.bench.peers import PEERS
    from hvd_adam.bench.surroundings import facts, save, warn
    from hvd_adam.bench.workloads import WORKLOADS, workload

    names = [name.strip() for name in peers.split(",")] if peers else list(PEERS)
    for name in names:
        known("peer", name, PEERS)
    chosen = models or tuple(WORKLOADS)
    for model in chosen:
        workload(model)
    tell(*warn(ranks))
    done: list[bench_step.Comparison] = []
    path, where = Path(out), facts()

    def keep(found: bench_step.Comparison) -> None:
        save(path, "bench step", {**where, "comparisons": [one.to_plain() for one in (*done, found)]})

    from rich.console import Console

    with keeping(path):
        for model in chosen:
            found = bench_step.compare(model, ranks, names, rounds, samples, tell, keep, dtype, turn)
            done.append(found)
            Console().print(bench_step.table(found))
    click.echo(f"n = {rounds} rounds in random order: medians, and 95 % bootstrap intervals of the ratios.")
    click.echo(f"All of it: {path}")


@bench.command()
@click.option("-n", "--ranks", type=click.IntRange(1), default=2, show_default=True)
@click.option("--largest", default="512M", show_default=True, help="Bytes of the largest sum: 64K, 4M, 1G.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Turns; 5 give an interval.")
@click.option("--out", metavar="FILE", default="runs/bench/allreduce.json", show_default=True)
def allreduce(ranks: int, largest: str, rounds: int, out: str) -> None:
    """A sum over the ranks, 1 KB to --largest: each engine beside the algorithms of the MPI under it."""
    from pathlib import Path

    from rich.console import Console

    from hvd_adam.bench import allreduce as exchange
    from hvd_adam.bench.surroundings import facts, save, warn

    most, path, where = exchange.read_size(largest), Path(out), facts()
    tell(*warn(ranks))

    def keep(found: exchange.Exchange) -> None:
        save(path, "bench allreduce", {**where, **found.to_plain()})

    with keeping(path):
        found = exchange.measure(ranks, most, (*exchange.OURS, *exchange.RAW), rounds, tell, keep)
    Console().print(exchange.table(found))
    for line in exchange.lines(found):
        click.echo(line)
    click.echo(f"n = {rounds} rounds in random order: medians, and 95 % bootstrap intervals. All of it: {path}")


@bench.command()
@click.option("--parameters", multiple=True, help="A model, 1e8, or 1000x10 (tensors x size); several allowed.")
@click.option("--rounds", type=click.IntRange(1), default=25, show_default=True, help="Turns; 5 give an interval.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "float64", "bfloat16"]), default="float32", show_default=True)
@click.option("--out", metavar="FILE", default="runs/bench/optimizer.json", show_default=True)
def optimizer(parameters: tuple[str, ...], rounds: int, threads: int, dtype: str, out: str) -> None:
    """GenericAdam's step beside torch's Adam: for-loop, foreach and fused."""
    from pathlib import Path

    from rich.console import Console

    from hvd_adam.bench import optimizer as steps
    from hvd_adam.bench.surroundings import facts, free_memory, save, warn
    from hvd_adam.bench.workloads import shapes_of

    chosen, path, where = parameters or steps.LISTS, Path(out), facts()
    for name in chosen:
        shapes_of(name)
    tell(*warn(1))
    done: list[steps.Timings] = []
    with keeping(path):
        for name in chosen:
            needed, room = steps.needed_memory(name, dtype), free_memory()
            if needed > room:
                tell(f"{name}: left out, it needs {needed >> 20:,} MB and {room >> 20:,} MB are free")
                continue
            done.append(steps.measure(name, rounds, threads, dtype))
            save(path, "bench optimizer", {**where, "timings": [one.to_plain() for one in done]})
            tell(f"{name}: done")
    Console().print(steps.table(done))
    click.echo(f"n = {rounds} rounds in random order: medians, and 95 % bootstrap intervals. All of it: {path}")


for _command in COMMANDS:
    bench.add_command(_command)
