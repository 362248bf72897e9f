"""The verdict drawn: chi_t and its envelope, clause 4's ratio, theta_t. matplotlib is imported on demand."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from hvd_adam.errors import ConfigError
from hvd_adam.theory.numeric import Samples
from hvd_adam.theory.verdict import Verdict

_POINTS = 600
_TITLE = 90  # letters in a line of the title


def draw(verdict: Verdict, samples: Samples, path: Path) -> None:
    """Writes an svg or png.

    Raises:
        ConfigError: another ending, or a place that cannot be written.
    """
    if path.suffix not in (".svg", ".png"):
        raise ConfigError(f"--plot {path}", "pictures are svg or png", f"--plot {path.with_suffix('.svg')}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 8), layout="constrained")
    FigureCanvasAgg(figure)
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    shown = np.unique(np.geomspace(1, len(samples.t), _POINTS).astype(int) - 1)
    t = samples.t[shown]
    _draw_chi(top, samples, shown)
    ratios, complements = samples.ratios[shown], samples.complements[shown]
    _frame(middle, ratios, np.array([verdict.limit or np.nan]))
    middle.plot(t, ratios)
    middle.set_ylabel("clause 4's ratio")
    if verdict.limit:
        middle.axhline(verdict.limit, linestyle=":", color="gray", label=f"limit {verdict.limit:.3g}")
        middle.legend()
    _frame(bottom, complements)
    bottom.plot(t, complements)
    bottom.set_ylabel(r"$1 - \theta_t$")
    bottom.set_xlabel("t")
    for axis in (top, middle, bottom):
        axis.axvline(verdict.steps, color="gray", linewidth=0.5)
    said = f"{verdict.state.value}: alpha {verdict.alpha}, theta {verdict.theta}"
    lines = textwrap.wrap(said, _TITLE, max_lines=4, placeholder=" ...", break_on_hyphens=False)
    figure.suptitle("\n".join(lines), fontsize=9)
    try:
        figure.savefig(path)
    except OSError as error:
        raise ConfigError(f"--plot {path}", f"it cannot be written: {error.strerror}", "name another file") from error


def _draw_chi(axis: Any, samples: Samples, shown: np.ndarray) -> None:
    """chi_t between a_t = min_{i<=t} chi_i and C_0 a_t."""
    below = np.fmin.accumulate(samples.chis)
    constant = np.nanmax(samples.chis / below)
    t = samples.t[shown]
    _frame(axis, below[shown], constant * below[shown])
    axis.plot(t, samples.chis[shown], label=r"$\chi_t$")
    axis.plot(t, below[shown], "--", label="$a_t$")
    axis.plot(t, constant * below[shown], ":", label=f"$C_0 a_t$, $C_0$ = {constant:.4g}")
    axis.set_ylabel(r"$\chi_t$")
    axis.legend()


def _frame(axis: Any, *curves: np.ndarray) -> None:
    """Both axes, before anything is drawn on them: a constant becomes a line, not the rounding of one."""
    axis.set(xscale="log", yscale="log")
    heights = np.concatenate([curve[(curve > 0) & (curve < np.inf)] for curve in curves])
    if len(heights):
        axis.set_ylim(max(heights.min() / 2, 1e-300), min(heights.max() * 2, 1e300))
