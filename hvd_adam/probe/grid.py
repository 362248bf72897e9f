"""The study that a probe suggests: workers x local batch, from well below the predicted elbow to above it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from hvd_adam import config_file
from hvd_adam.config import from_plain, to_plain
from hvd_adam.probe.findings import Findings

BELOW, ABOVE = 8, 2  # the grid reaches from elbow.low / 8 to 2 x elbow.high
MOST_CELLS = 14  # 1 to 8,192 workers
SHARE = 10  # of the training samples, the largest batch is at most one in so many
# a study sets these itself, or has a default of its own
LEFT_TO_STUDY = {"name", "workers", "local_batch", "steps", "epochs", "seed", "evaluate", "checkpoint", "noise_every"}
LEFT_TO_STUDY |= {"sampling", "determinism", "until", "max_seconds"}


class Grid(NamedTuple):
    """Powers of two; `why` says what kept it from reaching above the elbow, if anything did."""

    workers: list[int]
    local_batch: int
    why: str = ""


def suggest(findings: Findings) -> Grid:
    """Workers 1, 2, 4, ... of one local batch: the run's, or a smaller power of two where the elbow is near."""
    measured, at = findings.measured, findings.elbow
    accumulation = measured.config["accumulation"]
    wanted = max(1.0, at.low / BELOW / accumulation)
    local = min(measured.config["local_batch"], 2 ** math.floor(math.log2(wanted)))
    least = local * accumulation
    most = ABOVE * at.high
    why = ""
    if measured.train_size and most > measured.train_size / SHARE:
        most = measured.train_size / SHARE
        why = f"stops at a tenth of the {measured.train_size:,} training samples"
    elif math.isinf(most):
        most, why = ABOVE * 8 * max(at.low, least), "the elbow's upper end is open"
    last = min(MOST_CELLS - 1, max(2, math.ceil(math.log2(max(1.0, most / least)))))
    if why.startswith("stops"):
        last = max(1, math.floor(math.log2(max(2.0, most / least))))
    if last == MOST_CELLS - 1 and not why:
        why = f"stops at {2**last:,} workers"
    return Grid([2**k for k in range(last + 1)], local, why)


def study_yaml(findings: Findings) -> str:
    """The study file; its target is the loss, or for a stream without end the gradient norm, that the probe came to."""
    measured, grid = findings.measured, suggest(findings)
    usual = to_plain(from_plain({}))
    base: dict[str, Any] = {
        key: value
        for key, value in measured.config.items()
        if key not in LEFT_TO_STUDY and (key == "task" or value != usual.get(key))
    }
    if base.get("wire"):
        base["determinism"] = "default"  # a study's own is exact, which takes no wire
    base["local_batch"] = grid.local_batch
    if measured.train_size:
        target = {"measure": "train_loss", "at_most": _round(findings.late.loss)}
    else:
        target = {"measure": "mean_gradient_norm", "at_most": _round(findings.eps)}
    samples = 4 * len(measured.steps) * measured.workers * measured.worker_batch
    document = {
        "base": base,
        "grid": {"workers": grid.workers},
        "seeds": 5,
        "targets": [target],
        "budget": {"samples": max(samples, 40 * grid.workers[-1] * grid.local_batch)},
    }
    at = findings.elbow
    return (
        f"# Brackets the elbow that {measured.path} predicts: {at.low:.3g} to {at.high:.3g} samples a step.\n"
        + (f"# The grid {grid.why}.\n" if grid.why else "")
        + "# The target is what the probe came to in its last third; set your own.\n"
        + config_file.write(document)
    )


def _round(value: float) -> float:
    return float(f"{value:.3g}")
