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
        skipped: the gradient was not finite as it came to the ranks, and no step was taken.
        overflowed: of these steps, one whose gradient was finite, and too large only for fp16 on the wire.
        stop_asked: some rank asked to stop.
        wait_seconds: for averages: inside of backward, where a sum is made at once, and after it until all were here.
        wait_in_backward: of these, those inside of backward.
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
    wait_in_backward: float = 0.0
    overflowed: bool = False
