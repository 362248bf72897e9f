"""Pictures as small svg files: panels of curves with bands, one look for all figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Sequence

import matplotlib

matplotlib.use("svg")  # draws without a screen
from matplotlib import pyplot as plt

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")  # Okabe and Ito


@dataclass(frozen=True)
class Curve:
    """y against x, with a band or bars from low to high; style as matplotlib's plot has it."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    style: str = "-"
    colour: str | None = None
    bars: bool = False


@dataclass(frozen=True)
class Mark:
    """A line across the panel: at x = `at` where upright, else at y = `at`."""

    at: float
    label: str
    upright: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    x: str
    y: str
    curves: list[Curve]
    log_x: bool = False
    log_y: bool = False
    marks: list[Mark] = field(default_factory=list)
    linear_to: float | None = None  # y is linear within +- this, logarithmic beyond


def draw(panels: Sequence[Panel], path: Path, *, columns: int = 3, size: tuple[float, float] = (4.2, 3.4)) -> None:
    """Draws the panels into one svg file; equal panels give equal bytes."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    style: Any = {"font.size": 8, "svg.hashsalt": "hvd_adam", "svg.fonttype": "none", "axes.grid": True}
    style |= {"grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure, axes = plt.subplots(rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False)
        for place, axis in enumerate(axes.flat):
            if place < len(panels):
                _panel(axis, panels[place])
            else:
                axis.set_visible(False)
        figure.tight_layout()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(
            path, format=path.suffix[1:] or "svg", metadata={"Date": None} if path.suffix == ".svg" else None
        )
        plt.close(figure)


def _panel(axis: Any, panel: Panel) -> None:
    for place, curve in enumerate(panel.curves):
        colour = curve.colour or COLOURS[place % len(COLOURS)]
        if curve.bars and curve.low is not None and curve.high is not None:
            below = [max(y - low, 0.0) for y, low in zip(curve.y, curve.low, strict=True)]
            above = [max(high - y, 0.0) for y, high in zip(curve.y, curve.high, strict=True)]
            axis.errorbar(
                curve.x,
                curve.y,
                [below, above],
                fmt=curve.style,
                color=colour,
                label=curve.label,
                capsize=2,
                ms=3,
                lw=1,
            )
            continue
        axis.plot(curve.x, curve.y, curve.style, color=colour, label=curve.label, lw=1.2, ms=3)
        if curve.low is not None and curve.high is not None:
            axis.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, lw=0)
    for mark in panel.marks:
        line = axis.axvline if mark.upright else axis.axhline
        line(mark.at, color="#444444", lw=0.8, ls=":", label=mark.label)
    if panel.log_x:
        axis.set_xscale("log")
    if panel.log_y:
        axis.set_yscale("log")
    if panel.linear_to:
        axis.set_yscale("symlog", linthresh=panel.linear_to)
    axis.set_title(panel.title, fontsize=9)
    axis.set_xlabel(panel.x)
    axis.set_ylabel(panel.y)
    if any(curve.label for curve in panel.curves):
        axis.legend(fontsize=6.5, frameon=False)
