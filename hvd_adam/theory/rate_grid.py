"""One noisy quadratic, many learning rates at once: all of them meet the same draws, and share the vector units."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from hvd_adam.algorithms import Algorithm
from hvd_adam.theory.loops import rates_of

LANES = 256  # learning rates that a loop carries together: its arrays stay in the nearest cache


def gradient_norms(
    hessian: np.ndarray,
    linear: np.ndarray,
    start: np.ndarray,
    noise: np.ndarray,
    lrs: np.ndarray,
    member: Algorithm | None,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Exact gradient norms of f(x) = 1/2 x' H x - b' x under noisy steps.

    Args:
        hessian: H, symmetric, shape (d, d).
        linear: b, shape (d,).
        start: x_1, shape (d,).
        noise: what a step's gradient is off by, shape (trials, steps, d); all learning rates share it.
        lrs: learning rates, shape (K,): alpha_t = lr times the member's alpha_t.
        member: the algorithm; None is SGD.

    Returns:
        The mean over steps of ||grad f(x_t)||, and its value at the last iterate: each of shape (trials, K). inf or nan
        where a run diverged.
    """
    trials, steps, d = noise.shape
    means, lasts = np.empty((trials, len(lrs))), np.empty((trials, len(lrs)))
    rates = np.zeros((4, steps))
    if member is not None:
        rates = rates_of(member, np.arange(1.0, steps + 1), np.ones(2))
    v0 = 0.0 if member is None else float(member.v0)

    def one(trial: int) -> None:
        for first in range(0, len(lrs), LANES):
            some = slice(first, first + LANES)
            state = np.zeros((3 * d, len(lrs[some])))
            state[:d], state[2 * d :] = start[:, None], v0
            _steps(
                hessian,
                linear,
                rates,
                noise[trial],
                lrs[some],
                member is None,
                state,
                means[trial, some],
                lasts[trial, some],
            )

    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        list(pool.map(one, range(trials)))
    return means / steps, lasts


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp", "reassoc"})
def _steps(hessian, linear, rates, noise, lrs, sgd, state, total, last):  # type: ignore[no-untyped-def]
    steps, d = noise.shape
    lanes = len(lrs)
    gradient = np.empty((d, lanes))
    total[:] = 0.0
    for t in range(steps + 1):
        last[:] = 0.0
        for i in range(d):
            for k in range(lanes):
                gradient[i, k] = -linear[i]
            for j in range(d):
                h = hessian[i, j]
                for k in range(lanes):
                    gradient[i, k] += h * state[j, k]
            for k in range(lanes):
                last[k] += gradient[i, k] * gradient[i, k]
        for k in range(lanes):
            last[k] = np.sqrt(last[k])
        if t == steps:
            return
        alpha, beta, gap, eps = rates[0, t], rates[1, t], rates[2, t], rates[3, t]
        for k in range(lanes):
            total[k] += last[k]
        for i in range(d):
            off = noise[t, i]
            if sgd:
                for k in range(lanes):
                    state[i, k] -= lrs[k] * (gradient[i, k] + off)
                continue
            for k in range(lanes):
                g = gradient[i, k] + off
                m = beta * state[d + i, k] + (1.0 - beta) * g
                v = (1.0 - gap) * state[2 * d + i, k] + gap * (g * g)
                state[d + i, k] = m
                state[2 * d + i, k] = v
                state[i, k] -= lrs[k] * (alpha * m / (np.sqrt(v) + eps))
