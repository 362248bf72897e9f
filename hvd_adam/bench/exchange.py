"""One raw sum over the ranks, of so many bytes, as an engine makes it."""

from __future__ import annotations

from collections.abc import Callable


def exchange(engine: str, piece: int) -> Callable[[int], None]:
    """Return what sums so many bytes of float32 over all ranks, in place.

    Args:
        engine: as `hvd_adam.init` takes it.
        piece: larger sums go in pieces of so many bytes; 0 sends them whole.
    """
    import torch

    from hvd_adam.comm import init

    world = init(engine)
    held: dict[int, torch.Tensor] = {}  # of one size at a time

    def act(size: int) -> None:
        if size not in held:
            held.clear()
            held[size] = torch.zeros(max(1, size // 4))
        parts = held[size].split(piece // 4) if piece else (held[size],)
        handles = [world.start_allreduce(part, f"bench.{size}.{place}") for place, part in enumerate(parts)]
        for handle in handles:
            world.wait(handle)

    return act
