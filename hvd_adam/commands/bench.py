"""hvd-adam bench step | allreduce | optimizer; the others are in bench_more."""

from __future__ import annotations

from pathlib import Path

import click

from hvd_adam.commands.bench_ending import finish, keeping, outputs, tell
from hvd_adam.commands.bench_more import COMMANDS
from hvd_adam.commands.group import NearestGroup

_DTYPE = click.option(
    "--dtype", type=click.Choice(["float32", "float64", "bfloat16"]), default="float32", show_default=True
)


@click.group(cls=NearestGroup)
def bench() -> None:
    """Time this machine: the optimizer, the exchange, and a whole step beside what others would make of it."""


@bench.command()
@click.option("--model", "models", multiple=True, help="lenet, resnet18, transformer, 1e6, 1000x10. [first three]")
@click.option("--peers", help="Which, separated by commas; all by default. Ours is always among them.")
@click.option("-n", "--ranks", type=click.IntRange(1), default=2, show_default=True)
@click.option("--samples", type=click.IntRange(1), help="Batch of a rank; the model's own by default.")
@_DTYPE
@click.option("--turn", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Seconds, about.")
@click.option(
    "--fresh", is_flag=True, help="Start all jobs anew each round: slower, and the interval covers that, too."
)
@outputs("step", 9)
def step(
    models: tuple[str, ...], peers: str | None, ranks: int, samples: int | None, dtype: str, turn: float, fresh: bool,
    rounds: int, out: Path, as_json: bool, plot: Path | None,
) -> None:  # fmt: skip
    """A training step beside stock Horovod, DDP and bare compute, as installed and as the launchers start it."""
    from hvd_adam.bench import step as bench_step
    from hvd_adam.bench.names import listed
    from hvd_adam.bench.peers import PEERS
    from hvd_adam.bench.ratios import medians
    from hvd_adam.bench.surroundings import facts, save, warn
    from hvd_adam.bench.workloads import WORKLOADS, workload

    names = listed("peer", peers, PEERS)
    chosen = models or tuple(WORKLOADS)
    for model in chosen:
        workload(model)
    warnings = warn(ranks)
    tell(*warnings)
    done: list[bench_step.Comparison] = []
    where = {**facts(), "warnings": warnings}

    def keep(found: bench_step.Comparison) -> None:
        save(out, "bench step", {**where, "comparisons": [one.to_plain() for one in (*done, found)]})

    with keeping(out):
        for model in chosen:
            done.append(bench_step.compare(model, ranks, names, rounds, samples, tell, keep, dtype, turn, fresh))
    tables = [bench_step.table(one) for one in done]
    finish(
        out,
        as_json,
        plot,
        *tables,
        *warnings,
        f"n = {rounds} {'starts' if fresh else 'rounds'} in random order: {medians(rounds)}.",
    )


@bench.command()
@click.option("-n", "--ranks", type=click.IntRange(1), default=2, show_default=True)
@click.option("--largest", default="512M", show_default=True, help="Bytes of the largest sum: 64K, 4M, 1G.")
@click.option("--piece", default="4M", show_default=True, help="Bytes of a piece, where sums go in pieces.")
@click.option("--ways", help='Which, separated by commas, such as "shared in pieces,raw ring"; all by default.')
@outputs("allreduce", 7)
def allreduce(
    ranks: int, largest: str, piece: str, ways: str | None, rounds: int, out: Path, as_json: bool, plot: Path | None
) -> None:
    """A sum over the ranks, 1 KB to --largest: each engine beside the algorithms of the MPI under it."""
    from hvd_adam.bench import allreduce as exchange
    from hvd_adam.bench.names import listed
    from hvd_adam.bench.ratios import medians
    from hvd_adam.bench.surroundings import facts, save, warn

    chosen = listed("way", ways, (*exchange.OURS, *exchange.RAW))
    most, each, warnings = exchange.read_size(largest), exchange.read_size(piece), warn(ranks)
    where = {**facts(), "warnings": warnings}
    tell(*warnings)

    def keep(found: exchange.Exchange) -> None:
        save(out, "bench allreduce", {**where, "piece": each, **found.to_plain()})

    with keeping(out):
        found = exchange.measure(ranks, most, chosen, rounds, tell, keep, each)
        keep(found)
    said = [*exchange.lines(found), *warnings, f"n = {rounds} rounds in random order: {medians(rounds)}."]
    finish(out, as_json, plot, exchange.table(found), *said)


@bench.command()
@click.option("--parameters", multiple=True, help="A model, 1e8, or 1000x10 (tensors x size); several allowed.")
@click.option("--peers", help='Which, separated by commas, such as "torch fused,torch default"; all by default.')
@click.option("-n", "--ranks", type=click.IntRange(1), default=2, show_default=True)
@_DTYPE
@outputs("optimizer", 5)
def optimizer(
    parameters: tuple[str, ...], peers: str | None, ranks: int, dtype: str, rounds: int,
    out: Path, as_json: bool, plot: Path | None,
) -> None:  # fmt: skip
    """GenericAdam's step beside torch's Adam: for-loop, foreach and fused."""
    from hvd_adam.bench import optimizer as steps
    from hvd_adam.bench.names import listed
    from hvd_adam.bench.ratios import medians
    from hvd_adam.bench.surroundings import facts, free_memory, lacking, save, warn
    from hvd_adam.bench.workloads import shapes_of

    names = listed("peer", peers, steps.PEERS)
    chosen, warnings = parameters or steps.LISTS, warn(ranks)
    for name in chosen:
        shapes_of(name)
    tell(*warnings)
    done: list[steps.Timings] = []
    left_out: dict[str, str] = {}
    where = {**facts(), "warnings": warnings}

    def keep(*found: steps.Timings) -> None:
        timings = [one.to_plain() for one in (*done, *found)]
        save(out, "bench optimizer", {**where, "timings": timings, "left_out": left_out})

    with keeping(out):
        for name in chosen:
            if why := lacking(steps.needed_memory(name, ranks, dtype), free_memory()):
                left_out[name] = why
                tell(f"{name}: left out, {why}")
                keep()
            else:
                done.append(steps.measure(name, ranks, names, rounds, dtype, tell, keep))
    said = [f"{name}: left out, {why}" for name, why in left_out.items()]
    said += [*warnings, f"n = {rounds} starts in random order: {medians(rounds)}."]
    finish(out, as_json, plot, steps.table(done), *said)


for _command in COMMANDS:
    bench.add_command(_command)
