"""What one step came to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """The same on every rank, but for the seconds.

    Attributes:
        loss: mean over workers of their mean losses.
        samples: over all workers.
        grad_norm: Euclidean norm of the averaged gradient, before clipping.
        skipped: the gradient was not finite, and no step was taken.
        stop_asked: some rank asked to stop.
        wait_seconds: from the end of the last backward until all averages were here.
        step_seconds: everything after that.
        worker_square: mean over workers of ||g_w||^2, the squared norm of each worker's own gradient; with
            grad_norm, what `theory.noise` takes. None on a step that does not measure it.
    """

    loss: float
    samples: int
    grad_norm: float
    skipped: bool
    stop_asked: bool
    wait_seconds: float
    step_seconds: float
    worker_square: float | None = None
