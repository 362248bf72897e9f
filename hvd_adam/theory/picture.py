"""The verdict drawn: chi_t and its envelope, clause 4's ratio, theta_t. matplotlib is imported on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hvd_adam.errors import ConfigError
from hvd_adam.theory.numeric import Samples
from hvd_adam.theory.verdict import Verdict

_POINTS = 600


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
    middle.loglog(t, samples.ratios[shown])
    middle.set_ylabel("clause 4's ratio")
    if verdict.limit:
        middle.axhline(verdict.limit, linestyle=":", color="gray", label=f"limit {verdict.limit:.3g}")
        middle.legend()
    bottom.loglog(t, samples.complements[shown])
    bottom.set_ylabel(r"$1 - \theta_t$")
    bottom.set_xlabel("t")
    for axis in (top, middle, bottom):
        axis.axvline(verdict.steps, color="gray", linewidth=0.5)
    figure.suptitle(f"{verdict.state.value}: alpha {verdict.alpha[:40]}, theta {verdict.theta[:40]}", fontsize=9)
    try:
        figure.savefig(path)
    except OSError as error:
        raise ConfigError(f"--plot {path}", f"it cannot be written: {error.strerror}", "name another file") from error


def _draw_chi(axis: Any, samples: Samples, shown: np.ndarray) -> None:
    """chi_t between a_t = min_{i<=t} chi_i and C_0 a_t."""
    below = np.fmin.accumulate(samples.chis)
    constant = np.nanmax(samples.chis / below)
    t = samples.t[shown]
    axis.loglog(t, samples.chis[shown], label=r"$\chi_t$")
    axis.loglog(t, below[shown], "--", label="$a_t$")
    axis.loglog(t, constant * below[shown], ":", label=f"$C_0 a_t$, $C_0$ = {constant:.4g}")
    axis.set_ylabel(r"$\chi_t$")
    low, high = np.nanmin(below), np.nanmax(constant * below)
    if 0 < low <= high < np.inf:
        axis.set_ylim(low / 2, high * 2)  # a constant is a line, not the rounding of one
    axis.legend()
