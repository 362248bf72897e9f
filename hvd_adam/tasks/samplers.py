"""Which samples worker w sees at step t: a function of (seed, t, w), whatever rank plays the worker."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from hvd_adam.errors import ConfigError
from hvd_adam.randomness import seed_for

KINDS = ("replacement", "epochs")


class Sampler:
    """Deals sample indices to workers.

    Args:
        train_size: samples in the training set; 0 for an endless synthetic stream.
        local_batch: samples a worker sees in a step, b >= 1.
        workers: s >= 1; the global batch is s * b.
        seed: the run's seed.
        kind: "replacement", independent uniform draws as the theory has them: a worker's draws do not
            depend on how many workers there are. "epochs", each epoch a fresh permutation, dealt in
            order; what is left over after the last whole global batch waits for another epoch.

    Raises:
        ConfigError: an unknown kind, or a global batch larger than the data in "epochs".
    """

    def __init__(
        self, train_size: int, local_batch: int, workers: int = 1, seed: int = 0, kind: str = "epochs"
    ) -> None:
        if kind not in KINDS:
            raise ConfigError(f"sampling: {kind}", "there is no such sampling", f"say {' or '.join(KINDS)}")
        if local_batch < 1 or workers < 1:
            raise ConfigError(
                f"local_batch: {local_batch}, workers: {workers}", "each must be at least 1", "raise it to 1"
            )
        if kind == "epochs" and 0 < train_size < local_batch * workers:
            raise ConfigError(
                f"a global batch of {local_batch * workers} ({workers} workers x {local_batch})",
                f"an epoch has {train_size} samples, and would hold no whole batch",
                "lower local_batch or workers, or say sampling: replacement",
            )
        self.train_size, self.local_batch, self.workers = train_size, local_batch, workers
        self.seed, self.kind = seed, kind
        self._stream_start = seed_for("samples", seed) >> 1  # 2^62 identities: seeds do not meet

    @property
    def steps_per_epoch(self) -> int:
        """Whole global batches in the data; 0 for an endless stream."""
        return self.train_size // (self.local_batch * self.workers)

    def indices(self, step: int, worker: int) -> np.ndarray:
        """Sample numbers of one worker at step t = 1, 2, ...: int64, shape (local_batch,)."""
        start = worker * self.local_batch
        if self.train_size == 0:
            first = self._stream_start + ((step - 1) * self.workers + worker) * self.local_batch
            return np.arange(first, first + self.local_batch, dtype=np.int64)
        if self.kind == "replacement":
            draws = np.random.Generator(np.random.Philox(seed_for("samples", self.seed, step, worker)))
            return draws.integers(0, self.train_size, size=self.local_batch)
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        start += place * self.local_batch * self.workers
        return _permutation(self.train_size, self.seed, epoch)[start : start + self.local_batch].copy()


@lru_cache(maxsize=2)
def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    order = np.random.Generator(np.random.Philox(seed_for("samples", seed, epoch))).permutation(size)
    order.setflags(write=False)
    return order
