"""What a benchmark has kept, drawn: sums and steps as curves over their size, everything else a row a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hvd_adam.bench.figures import READERS, Figure, Kept
from hvd_adam.bench.ratios import median
from hvd_adam.errors import ConfigError, RunError

KINDS = (".svg", ".png", ".pdf")
_ROW = 0.28  # inches of a figure
_UNITS = {"": "ratio", "s": "seconds"}  # figures of one unit share an axis


def check_ending(path: Path) -> None:
    """
    Raises:
        ConfigError: a kind of file other than svg, png and pdf.
    """
    if path.suffix.lower() not in KINDS:
        raise ConfigError(f"--plot {path}", "there is no such kind of picture", f"end it in {' or '.join(KINDS)}")


def draw(kept: Kept, path: Path) -> None:
    """Writes the picture.

    Args:
        kept: what a command of `bench` has saved.

    Raises:
        ConfigError: see `check_ending`.
        RunError: the file cannot be written.
    """
    check_ending(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    kind = str(kept["kind"]).removeprefix("bench ")
    found = list(READERS[kind](kept))
    units = [unit for unit in _UNITS if any(one.unit == unit for one in found)] or [""]
    height = 4.5 if kind in _CURVES else 0.4 + 0.8 * len(units) + _ROW * max(1, len(found))
    canvas = Canvas(figsize=(8, height), layout="constrained")
    FigureCanvasAgg(canvas)
    if kind in _CURVES:
        top = canvas.subplots()
        _CURVES[kind](top, kept)
    else:
        shares = [max(1, sum(one.unit == unit for one in found)) for unit in units]
        several = canvas.subplots(len(units), 1, squeeze=False, gridspec_kw={"height_ratios": shares})[:, 0]
        for axes, unit in zip(several, units, strict=True):
            _rows(axes, [one for one in found if one.unit == unit], _UNITS[unit])
        top = several[0]
    machine = f"{kept.get('host_cores', '?')} cores, {kept.get('processor', '')}"
    top.set_title(f"hvd-adam bench {kind}: {machine}", fontsize=9)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path)
    except OSError as error:
        raise RunError(f"--plot {path}", f"it cannot be written: {error.strerror}", "name another file") from error


def _rows(axes: Any, found: list[Figure], unit: str) -> None:
    """A row a figure: a dot and its interval in the same environment, a ring as installed, a bar where the goal is."""
    for place, one in enumerate(reversed(found)):
        for value, goal, shape, colour in (
            (one.installed, one.goal_installed, "none", "tab:orange"), (one.alike, one.goal, "tab:blue", "tab:blue"),
        ):  # fmt: skip
            if value is None:
                continue
            axes.plot([value.low, value.high], [place, place], color=colour)  # none where there is no interval
            axes.plot([value.value], [place], "o", markerfacecolor=shape, color=colour)
            if goal is not None:
                axes.plot([goal], [place], "|", color=colour, markersize=14)
    axes.set_yticks(range(len(found)), [one.name for one in reversed(found)], fontsize=7)
    axes.set_ylim(-0.6, max(1, len(found)) - 0.4)  # no row lies on the frame
    axes.set_xscale("log")
    if unit == "ratio":
        axes.axvline(1, color="gray", linewidth=0.5)
    axes.set_xlabel(f"{unit}; dot: same environment; ring: as installed; bar: the goal of that colour", fontsize=8)


def _sums(axes: Any, kept: Kept) -> None:
    """Bytes a second of each way against the bytes of the sum."""
    sizes = [int(text) for text in kept["seconds"]]
    for way in next(iter(kept["seconds"].values()), {}):
        rates = [size / median(by[way]).value for size, by in zip(sizes, kept["seconds"].values(), strict=True)]
        axes.plot(sizes, rates, "--" if way.startswith("raw") else "-", marker=".", label=way)
    axes.set(xscale="log", yscale="log", xlabel="bytes of the sum", ylabel="bytes a second")
    axes.legend(fontsize=7)


def _steps(axes: Any, kept: Kept) -> None:
    """Seconds a step against workers a rank for each model and number of ranks, and against millions of parameters."""
    from hvd_adam.bench.workloads import WORKLOADS

    lines: dict[str, list[tuple[float, float]]] = {}
    for point in kept["points"]:
        sized = point["model"] not in WORKLOADS
        name = "millions of parameters" if sized else f"workers a rank: {point['model']}, {point['ranks']} ranks"
        x = point["parameters"] / 1e6 if sized else point["workers"]
        lines.setdefault(name, []).append((x, median(point["seconds"]).value))
    for name, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker=".", label=name)
    axes.set(xscale="log", yscale="log", xlabel="as the line says", ylabel="seconds a step")
    axes.legend(fontsize=7)


_CURVES = {"allreduce": _sums, "scale": _steps}
