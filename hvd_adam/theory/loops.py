"""Generic Adam in compiled loops: many seeds, many steps, float64, on the problems of `theory.problems`.

Any schedule serves: its values are computed block by block in numpy and handed to the loop. So are the draws. What is
compiled is one function of one signature, kept on disk after the first call.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Iterator, Sequence

import numba
import numpy as np

from hvd_adam.algorithms import ONE_OVER_SD, Algorithm
from hvd_adam.randomness import seed_for
from hvd_adam.theory.problems import CLIPPED_SQUARE, PSEUDO_HUBER, QUADRATIC, SQUARE, TOY, Problem

BLOCK = 4096  # steps between two visits to numpy; the draws of a block stay in the cache
X, M, V, LARGEST = range(4)


@dataclass(frozen=True)
class Paths:
    """What a set of runs left behind; R runs, one a seed.

    Attributes:
        at: the steps t after which something was kept, increasing.
        x: the iterates x_{t+1}, shape (len(at), R, d).
        mean_norm: (1/t) sum_{i<=t} ||grad f(x_i)||, shape (len(at), R): exact gradients, at the points before a step.
    """

    at: np.ndarray
    x: np.ndarray
    mean_norm: np.ndarray


def run(
    problem: Problem,
    member: Algorithm,
    steps: int,
    seeds: Sequence[int],
    *,
    batch: int = 1,
    at: Sequence[int] = (),
    threads: int | None = None,
) -> Paths:
    """Runs `member` on `problem` once for each seed.

    Args:
        steps: T >= 1; schedules that know the horizon get it.
        seeds: one run each; equal seeds see equal draws.
        batch: s, the samples whose mean a step uses; v_0 = "1/(s d)" follows it.
        at: steps to keep besides the last.
        threads: runs at a time; the cores by default.
    """
    kept = np.unique([*(t for t in at if 1 <= t <= steps), steps])
    rngs = [np.random.Generator(np.random.SFC64(seed_for("samples", seed))) for seed in seeds]
    v0 = 1.0 / (batch * problem.d) if member.v0 == ONE_OVER_SD else float(member.v0)
    state = np.zeros((len(rngs), 4, problem.d))
    state[:, X], state[:, V], state[:, LARGEST] = problem.start, v0, v0
    sums = np.zeros((len(rngs), 1))
    x, mean_norm = np.empty((len(kept), len(rngs), problem.d)), np.empty((len(kept), len(rngs)))
    low, high = problem.box

    def advance(run: int, first: int, rates: np.ndarray) -> None:
        draws = problem.draws(rngs[run], first, rates.shape[1], batch)
        constants = (problem.law, problem.parameters, float(problem.mean), low, high, member.amsgrad)
        block(*constants, rates, draws, state[run], sums[run])

    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        place = 0
        for first, rates in _blocks(member, steps, kept):
            list(pool.map(lambda i: advance(i, first, rates), range(len(rngs))))  # noqa: B023
            last = first + rates.shape[1] - 1
            if last == kept[place]:
                x[place], mean_norm[place] = state[:, X], sums[:, 0] / last
                place += 1
    return Paths(kept, x, mean_norm)


def rates_of(member: Algorithm, t: np.ndarray, products: np.ndarray) -> np.ndarray:
    """alpha_t, beta_t, 1 - theta_t and epsilon_t for the steps t: shape (4, len(t)).

    Bias correction goes into alpha_t and epsilon_t (theory: Kingma and Ba 2015, section 2): products[0] and products[1]
    are prod beta_i and prod theta_i before the first of these steps, and are moved on.
    """
    alpha, beta, gap = member.alpha(t), member.beta(t), member.theta.complement(t)
    eps = np.full(len(t), member.eps if member.eps_in == "denominator" else 0.0)
    if member.bias_correction:
        done_beta, done_theta = products[0] * np.cumprod(beta), products[1] * np.cumprod(1.0 - gap)
        products[:] = done_beta[-1], done_theta[-1]
        root = np.sqrt(1.0 - done_theta)
        alpha, eps = alpha * root / (1.0 - done_beta), eps * root
    return np.stack([alpha, beta, gap, eps])


def _blocks(member: Algorithm, steps: int, kept: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """First step and rates of each block; a block ends where something is kept."""
    names = ("alpha", "beta", "theta")
    bound = replace(member, **{name: getattr(member, name).with_horizon(steps) for name in names})
    products = np.ones(2)
    ends = np.union1d(np.arange(BLOCK, steps, BLOCK), kept)
    first = 1
    for end in ends.astype(int):
        yield first, rates_of(bound, np.arange(first, end + 1, dtype=float), products)
        first = end + 1


@numba.njit(nogil=True, cache=True, inline="always")
def _parts(law, parameters, i, x):  # type: ignore[no-untyped-def]
    """a(x_i) and b(x_i) of g_i = a + u b."""
    if law == TOY:
        return 2.0 * x + parameters[0] * np.sin(2.0 * x), 1.0
    if law == PSEUDO_HUBER:
        return 2.0 * x / np.sqrt(1.0 + (x / parameters[1]) ** 2) + parameters[0] * np.sin(2.0 * x), 1.0
    if law == QUADRATIC:
        return parameters[i] * x, 1.0
    if law == SQUARE:
        return 0.0, 2.0 * x
    if law == CLIPPED_SQUARE:
        return 0.0, 2.0 * min(max(x, -1.0), 1.0)
    return 0.0, 1.0  # LINEAR


@numba.njit(nogil=True, cache=True, error_model="numpy")
def block(law, parameters, mean, low, high, amsgrad, rates, draws, state, sums):  # type: ignore[no-untyped-def]
    """Steps of one run, in place: one for each column of `rates` (alpha, beta, 1 - theta, epsilon) and row of `draws`.

    state: x, m, v and the largest v, shape (4, d). sums[0] gains ||grad f(x_t)|| before each step. 0/0 counts as 0.
    """
    steps, d = draws.shape
    for t in range(steps):
        alpha, beta, gap, eps = rates[0, t], rates[1, t], rates[2, t], rates[3, t]
        square = 0.0
        for i in range(d):
            x = state[X, i]
            a, b = _parts(law, parameters, i, x)
            exact = a + mean * b
            square += exact * exact
            g = a + draws[t, i] * b
            m = beta * state[M, i] + (1.0 - beta) * g
            v = (1.0 - gap) * state[V, i] + gap * (g * g)
            state[M, i], state[V, i] = m, v
            if amsgrad:
                v = max(v, state[LARGEST, i])
                state[LARGEST, i] = v
            denominator = np.sqrt(v) + eps
            step = alpha * m / denominator if denominator > 0.0 else 0.0
            state[X, i] = min(max(x - step, low), high)
        sums[0] += np.sqrt(square)
