"""One raw sum over the ranks, of so many bytes, as an engine makes it."""

from __future__ import annotations

import time
from collections.abc import Callable


def exchange(engine: str, piece: int) -> Callable[[int], float]:
    """Return what sums so many bytes of float32 over all ranks, in place, and gives the seconds that it took.

    Every rank writes all of its numbers anew before each sum, off the clock, as a backward pass does.

    Args:
        engine: as `hvd_adam.init` takes it.
        piece: larger sums go in pieces of so many bytes; 0 sends them whole.
    """
    import torch

    from hvd_adam.comm import init

    world = init(engine)
    held: dict[int, list[torch.Tensor]] = {}  # of one size at a time

    def act(size: int) -> float:
        if size not in held:
            held.clear()
            numbers, most = max(1, size // 4), piece // 4 or size
            lengths = [min(most, numbers - begin) for begin in range(0, numbers, most)]
            held[size] = [world.zeros(length, torch.float32, torch.device("cpu")) for length in lengths]
        for part in held[size]:
            part.fill_(1.0)
        world.barrier()
        started = time.perf_counter()
        handles = [world.start_allreduce(part, f"bench.{size}.{place}") for place, part in enumerate(held[size])]
        for handle in handles:
            world.wait(handle)
        return time.perf_counter() - started

    return act
