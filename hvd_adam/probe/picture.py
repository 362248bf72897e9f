"""The predicted curve as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hvd_adam.errors import ConfigError, RunError
from hvd_adam.probe.findings import LIMIT
from hvd_adam.theory.elbow import relative_steps
from hvd_adam.theory.prediction import Prediction

KINDS = (".svg", ".png", ".pdf")


def draw(prediction: Prediction, file: str | Path) -> None:
    """T(s)/T(infinity) against s, the band that the elbow's range leaves, and where it pays.

    Raises:
        ConfigError: a kind of file other than svg, png and pdf, or an elbow without an upper end.
        RunError: the file cannot be written.
    """
    file = Path(file)
    if file.suffix.lower() not in KINDS:
        raise ConfigError(f"--plot {file}", "there is no such kind of picture", f"end it in {' or '.join(KINDS)}")
    at = prediction.elbow
    if not np.isfinite(at.high):
        raise ConfigError("an elbow without an upper end", "it cannot be drawn", "probe longer: --seconds 300")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    s = np.geomspace(
        min(prediction.rows[0].batch, max(at.low, 1.0) / 30), max(prediction.rows[-1].batch, at.high * 10), 300
    )
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    low, high = (relative_steps(s, end) for end in (at.low, at.high))
    axes.fill_between(s, low, high, alpha=0.25, label="T(s) / T(infinity), over the elbow's range")
    axes.plot(s, relative_steps(s, at.value), label="its middle")
    axes.plot(s, at.value / s, linestyle=":", color="black", label="perfectly linear")
    axes.axvspan(at.low, at.high, alpha=0.12, color="tab:orange", label="elbow: twice T(infinity)")
    axes.set(xscale="log", yscale="log", xlabel="s, samples a step over all workers", ylabel="T(s) / T(infinity)")
    axes.set_ylim(0.7, None)
    axes.set_title(f"||grad|| = {prediction.eps:.3g}; {LIMIT}", fontsize=9)
    axes.legend(fontsize=8)
    try:
        figure.savefig(file)
    except OSError as error:
        raise RunError(f"--plot {file}", f"it cannot be written: {error.strerror}", "name another file") from error
    finally:
        pyplot.close(figure)
