"""The gradient noise scale, from squared norms that a data-parallel step has at hand.

At one point x let g_w be the gradient of worker w over b samples, and g_B the mean over s workers, that is
over B = s b samples. Then

    E||g_w||^2 = ||grad f||^2 + tr(Sigma)/b,     E||g_B||^2 = ||grad f||^2 + tr(Sigma)/B

and both sides can be solved for what is wanted (McCandlish et al. 2018, arXiv 1812.06162, appendix A):

    ||grad f||^2 ~ (B ||g_B||^2 - b ||g_w||^2) / (B - b),     tr(Sigma) ~ (||g_w||^2 - ||g_B||^2) / (1/b - 1/B)

Both are unbiased where samples are independent. Workers that share out one permutation of N samples, as in epochs, see
different ones: the expectation of g_w . g_w' is then ||grad f||^2 - tr(Sigma)/N, and so is that of the first estimate,
which tr(Sigma)/N is added to. (Exact at one x, where all noise is the samples'; dropout's does not depend on them.) The
ratio of the two, the noise scale tr(Sigma)/||grad f||^2, is not unbiased. So numerator and denominator are averaged
over steps separately and divided once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hvd_adam.errors import ConfigError, RunError
from hvd_adam.theory.elbow import Range

MOST_BLOCKS = 512
FEWEST_STEPS = 12


class NoiseScale(NamedTuple):
    """Means over a stretch of steps, with intervals.

    Attributes:
        trace: tr Sigma, the total variance of one sample's gradient (A5).
        square: ||grad f||^2.
        scale: trace / square, in samples; its upper end is infinite where the square is not told from 0.
        steps: pairs that went in.
        blocks: pieces that the intervals rest on.
    """

    trace: Range
    square: Range
    scale: Range
    steps: int
    blocks: int


def unbiased(
    worker_square: ArrayLike, mean_square: ArrayLike, *, local_batch: int, workers: int, shared_out: int = 0
) -> np.ndarray:
    """tr Sigma and ||grad f||^2 of each step, shape (2, steps); single values may well be negative.

    Args:
        worker_square: mean over workers of ||g_w||^2.
        mean_square: ||g_B||^2 of their average.
        local_batch: b, samples behind one worker's gradient.
        workers: s.
        shared_out: N, where a step's samples are drawn without replacement from so many; 0: independently.

    Raises:
        ConfigError: fewer than two workers: the two numbers are then one.
        RunError: a value that is not finite.
    """
    if workers < 2:
        raise ConfigError(
            f"workers: {workers}",
            "the noise scale compares each worker's gradient with the average of all, and needs at least 2",
            "set workers=2 (one rank can play both)",
        )
    small, large = np.asarray(worker_square, dtype=float), np.asarray(mean_square, dtype=float)
    if not (np.isfinite(small).all() and np.isfinite(large).all()):
        raise RunError("a gradient norm that is not finite", "its noise scale is none", "lower the learning rate")
    batch = local_batch * workers
    trace = (small - large) / (1 / local_batch - 1 / batch)
    square = (batch * large - local_batch * small) / (batch - local_batch)
    if shared_out:
        square = square + trace / shared_out
    return np.stack([trace, square])


def noise_scale(
    worker_square: ArrayLike,
    mean_square: ArrayLike,
    *,
    local_batch: int,
    workers: int,
    shared_out: int = 0,
    level: float = 0.95,
) -> NoiseScale:
    """The noise scale of a stretch of steps, in their order.

    The truth that the intervals cover is the mean over the stretch of tr Sigma(x_t), of ||grad f(x_t)||^2, and
    the quotient of the two means. While training goes on both drift, and a spread about the mean would take
    the drift for noise; so the covariance comes from second differences of neighbouring blocks,

        cov ~ sum_j D_j D_j^T / (6 (m - 2) m),     D_j = X_(j-1) - 2 X_j + X_(j+1),

    which a straight line does not enter, with (m - 2) 18/35 degrees of freedom (their correlations are -2/3
    and 1/6). A block is one step until there are more than 512 of them; the few last steps that fill no
    whole block are left out. The quotient's interval is Fieller's.

    Raises:
        RunError: fewer than 12 steps.
    """
    pairs = unbiased(worker_square, mean_square, local_batch=local_batch, workers=workers, shared_out=shared_out)
    steps = pairs.shape[1]
    if steps < FEWEST_STEPS:
        raise RunError(
            f"{steps} measured steps",
            f"an interval for the noise scale needs at least {FEWEST_STEPS} of them",
            "give more --seconds, or a smaller model or batch",
        )
    length = -(-steps // MOST_BLOCKS)
    blocks = steps // length
    means = pairs[:, : blocks * length].reshape(2, blocks, length).mean(axis=2)
    return _intervals(means, level, blocks * length)


def _intervals(means: np.ndarray, level: float, steps: int) -> NoiseScale:
    from scipy.special import stdtrit

    blocks = means.shape[1]
    curved = np.diff(means, n=2, axis=1)
    cov = curved @ curved.T / (6 * (blocks - 2) * blocks)
    reach = float(stdtrit((blocks - 2) * 18 / 35, 0.5 + level / 2))
    trace, square = (float(value) for value in means.mean(axis=1))
    ends = reach * np.sqrt(np.diag(cov))
    return NoiseScale(
        Range(trace, max(0.0, trace - ends[0]), max(0.0, trace + ends[0])),
        Range(square, max(0.0, square - ends[1]), max(0.0, square + ends[1])),
        _fieller(trace, square, cov * reach**2),
        steps,
        blocks,
    )


def _fieller(top: float, bottom: float, cov: np.ndarray) -> Range:
    """All r >= 0 with (top - r bottom)^2 <= the variance of top - r bottom times the threshold, which is in `cov`."""
    a, b, c = bottom**2 - cov[1, 1], top * bottom - cov[0, 1], top**2 - cov[0, 0]
    value = top / bottom if bottom > 0 else np.inf
    root = np.sqrt(max(0.0, b * b - a * c))
    low = 0.0
    if c > 0:  # else a numerator of 0 is not excluded; c / (b + root) is the smaller root without cancellation
        low = c / (b + root) if b + root > 0 else 0.0
    high = (
        (b + root) / a if a > 0 and bottom > 0 else np.inf
    )  # of a square told from 0 on the wrong side nothing is known
    return Range(float(value), float(low), max(0.0, float(high)))


def gradient_bound(
    worker_square: ArrayLike, mean_square: ArrayLike, *, local_batch: int, workers: int, shared_out: int = 0
) -> float:
    """G along the path, so that E||g||^2 <= G^2 held for every batch size: the largest over blocks of

        ||grad f||^2 + tr Sigma

    the mean square of one sample's gradient. Blocks are of 4, 4, 8, 16, ... steps: a gradient is largest, and
    falls fastest, at the start. Points that the path did not visit say nothing.
    """
    both = unbiased(worker_square, mean_square, local_batch=local_batch, workers=workers, shared_out=shared_out)
    square = both.sum(axis=0)
    cuts = [4 * 2**k for k in range(60) if 4 * 2**k < len(square)]
    return float(np.sqrt(max(0.0, max(part.mean() for part in np.split(square, cuts)))))
