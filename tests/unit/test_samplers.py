"""What worker w sees at step t depends on (seed, t, w) alone."""

from __future__ import annotations

import numpy as np
import pytest

from hvd_adam.errors import ConfigError
from hvd_adam.tasks.samplers import Sampler


def test_draws_with_replacement_do_not_depend_on_how_many_workers_there_are() -> None:
    few, many = Sampler(1000, 16, 2, 7, "replacement"), Sampler(1000, 16, 64, 7, "replacement")
    assert np.array_equal(few.indices(5, 1), many.indices(5, 1))


def test_an_epoch_shows_each_sample_once_and_the_next_in_another_order() -> None:
    sampler = Sampler(96, 8, 3, 1, "epochs")
    epochs = [
        np.concatenate([sampler.indices(step, w) for step in range(first, first + 4) for w in range(3)])
        for first in (1, 5)
    ]
    assert sampler.steps_per_epoch == 4
    assert all(sorted(epoch) == list(range(96)) for epoch in epochs)
    assert not np.array_equal(*epochs)


def test_a_global_batch_is_the_same_however_it_is_split() -> None:
    split, whole = Sampler(100, 4, 8, 3, "epochs"), Sampler(100, 32, 1, 3, "epochs")
    assert np.array_equal(np.concatenate([split.indices(2, w) for w in range(8)]), whole.indices(2, 0))


@pytest.mark.parametrize(("size", "kind"), [(0, "replacement"), (1000, "replacement"), (1000, "epochs")])
def test_seeds_steps_and_workers_see_different_samples(size: int, kind: str) -> None:
    drawn = {
        tuple(Sampler(size, 8, 4, seed, kind).indices(step, worker).tolist())
        for seed in range(3)
        for step in (1, 2, 3)
        for worker in range(4)
    }
    assert len(drawn) == 3 * 3 * 4


def test_draws_are_uniform() -> None:
    sampler = Sampler(10, 1000, 1, 0, "replacement")
    counts = np.bincount(np.concatenate([sampler.indices(t, 0) for t in range(1, 11)]), minlength=10)
    assert ((counts - 1000) ** 2 / 1000).sum() < 27.9  # chi-squared, 9 degrees of freedom, 0.1 %


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((100, 8, 1, 0, "sorted"), "sampling: sorted"),
        ((100, 0, 1, 0), "local_batch: 0"),
        ((100, 64, 2, 0), "global batch of 128"),
    ],
)
def test_what_cannot_be_dealt_is_refused(arguments: tuple, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Sampler(*arguments)
