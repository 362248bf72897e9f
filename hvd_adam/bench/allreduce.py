"""What a sum over the ranks costs, by size: each engine of ours beside the algorithms of the MPI under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hvd_adam.bench.crews import Crews, Job
from hvd_adam.bench.ratios import SHARE, Line, Ratio, latency_and_bandwidth, median, ratio
from hvd_adam.bench.surroundings import free_memory, lacking
from hvd_adam.comm.launch import SUMS
from hvd_adam.errors import ConfigError

TURN = 0.3  # seconds of a turn, about
PIECE = 4 << 20  # bytes: the default size of a bucket
OURS = ("shared", "horovod", *(f"{way} in pieces" for way in SUMS))  # plain MPI, whole, is raw
_ALGORITHMS = {"recursive doubling": 3, "ring": 4, "segmented ring": 5, "Rabenseifner": 6}  # of Open MPI's tuned
RAW = tuple(f"raw {name}" for name in ("default", *_ALGORITHMS))
SMALLEST, LARGEST = 1 << 10, 512 << 20


def sizes(largest: int) -> list[int]:
    """1 KB to `largest` bytes, a factor of 4 apart, and `largest`."""
    found, size = [], SMALLEST
    while size < largest:
        found.append(size)
        size *= 4
    return [*found, largest]


def read_size(text: str) -> int:
    """Bytes of "64K", "4M", "1G" or "1000".

    Raises:
        ConfigError: another text, or less than 1 KB.
    """
    unit = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper(), 0)
    digits = text[:-1] if unit else text
    if not digits.isdecimal() or int(digits) << unit < SMALLEST:
        raise ConfigError(
            f"size: {text}", "a size is a whole number of bytes, 1K or more", "write for instance 64K or 512M"
        )
    return int(digits) << unit


@dataclass
class Exchange:
    """Seconds of a sum by size and by way, a value a round; `left_out`: size -> why."""

    ranks: int
    ways: Sequence[str]
    seconds: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)

    def best_raw(self, size: int) -> str | None:
        """The raw algorithm with the smallest median at that size."""
        raw = [way for way in self.ways if way in RAW]
        return min(raw, key=lambda way: median(self.seconds[size][way]).value) if raw else None

    def against_raw(self, way: str, size: int) -> Ratio | None:
        """That way's seconds to those of the best raw algorithm, round by round."""
        best = self.best_raw(size)
        return ratio(self.seconds[size][way], self.seconds[size][best]) if best else None

    def line(self, way: str) -> Line | None:
        """Latency and bandwidth of a way, from two sizes on."""
        if len(self.seconds) < 2:
            return None
        return latency_and_bandwidth(list(self.seconds), [median(by[way]).value for by in self.seconds.values()])

    def to_plain(self) -> dict[str, Any]:
        """JSON's kinds only."""
        return {"ranks": self.ranks, "seconds": self.seconds, "left_out": self.left_out}

    def crossovers(self) -> list[tuple[int, str]]:
        """From which size on which raw algorithm is the fastest: the first, and every change."""
        found: list[tuple[int, str]] = []
        for size in self.seconds:
            best = self.best_raw(size)
            if best and (not found or found[-1][1] != best):
                found.append((size, best))
        return found


def job(way: str, ranks: int, piece: int = PIECE) -> Job:
    """The job of one way to sum."""
    sums = next((name for name in SUMS if way.startswith(name)), "mpi")
    engine = "mpi" if sums == "mpi" else "horovod"
    environ = {"HVD_ADAM_SUMS": sums}
    algorithm = _ALGORITHMS.get(way.removeprefix("raw "))
    if algorithm is not None:
        environ["OMPI_MCA_coll_tuned_use_dynamic_rules"] = "1"
        environ["OMPI_MCA_coll_tuned_allreduce_algorithm"] = str(algorithm)
    order = {"build": "exchange", "engine": engine, "piece": piece if way.endswith("in pieces") else 0}
    return Job(way, ranks, order, environ)


def measure(
    ranks: int,
    largest: int,
    ways: Sequence[str],
    rounds: int,
    said: Callable[[str], None] = lambda _: None,
    kept: Callable[[Exchange], None] = lambda _: None,
    piece: int = PIECE,
) -> Exchange:
    """Times sums of all sizes up to `largest` bytes, the ways taking turns; see `step.compare`.

    Args:
        piece: bytes of a piece, where a way sends pieces: the size of a bucket.
    """
    found = Exchange(ranks, ways)
    said(f"{len(ways)} jobs of {ranks} ranks start, one after the other")
    with Crews([job(way, ranks, piece) for way in ways]) as crews:
        for size in sizes(largest):
            if why := lacking(2 * size * ranks * len(ways), free_memory()):
                found.left_out[size] = why
                said(f"{size:,} bytes: left out, {why}")
                continue
            steps = crews.calibrate(TURN, 1000, size)
            for turn in crews.rounds(rounds, steps, size):
                by = found.seconds.setdefault(size, {way: [] for way in ways})
                for way in ways:
                    by[way].append(turn[way])
                kept(found)
            said(f"{size:,} bytes: done")
    return found


def table(found: Exchange) -> Any:
    """A rich table: milliseconds by size and way, the fastest of each size marked."""
    from rich.table import Table

    shown = Table(title=f"A sum over {found.ranks} ranks, in ms", title_justify="left", box=None)
    for name in ("bytes", *found.ways):
        shown.add_column(name, justify="right")
    for size, by in found.seconds.items():
        times = {way: median(by[way]).value for way in found.ways}
        least = min(times.values())
        cells = [f"{1e3 * s:.3g}{' *' if s == least else '  '}" for s in times.values()]
        shown.add_row(f"{size:,}", *cells)
    return shown


def lines(found: Exchange) -> list[str]:
    """Sentences on what the table comes to: latency, bandwidth, and ours beside the best raw algorithm."""
    said = []
    for way in found.ways:
        line = found.line(way)
        if line is not None:
            said.append(
                f"{way}: {1e6 * line.latency:.0f} us + bytes / {line.bandwidth / 1e9:.2f} GB/s; "
                f"from {line.worthwhile / 2**20:.2g} MB on, bytes are {100 * SHARE:.0f} % of it"
            )
    changes = [f"from {size:,} bytes {way.removeprefix('raw ')}" for size, way in found.crossovers()]
    if changes:
        said.append(f"the fastest raw algorithm: {', '.join(changes)}")
    for size in found.seconds:
        if size >= 1 << 20:
            for way in (w for w in found.ways if w in OURS):
                against = found.against_raw(way, size)
                if against is not None:
                    said.append(f"{size >> 20} MB, {way} / {found.best_raw(size)}: {against}")
    return said
