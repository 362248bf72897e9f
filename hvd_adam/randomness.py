"""Seeds. Everything random is keyed by what it is for, never by which rank happens to do it."""

from __future__ import annotations

import numpy as np

STREAMS = {"weights": 0, "samples": 1, "worker": 2, "augmentation": 3, "split": 4, "curvature": 5}


def seed_for(stream: str, seed: int, step: int = 0, worker: int = 0) -> int:
    """A 63-bit seed for one purpose: the same on every machine, unrelated to its neighbours.

    Args:
        stream: what it is for, a key of `STREAMS`.
        seed: the run's seed, >= 0.
        step: t >= 1, or 0 for what is drawn once a run.
        worker: 0 <= w < workers.
    """
    state = np.random.SeedSequence([seed, STREAMS[stream], step, worker])
    return int(state.generate_state(1, np.uint64)[0] >> np.uint64(1))
