"""What each of the doctor's two ranks runs: `python -m hvd_adam.doctor.two_ranks ENGINE`.

Every phase is reported when it has ended, by one marked JSON line (of rank 0, once ranks have numbers): where
ranks hang, the last line tells what they hang in.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvd_adam.comm import World

MARK = "hvd_adam-doctor:"
PHASES = ("nothing", "started", "imported", "connected", "timed", "parted")
PATIENCE = 50.0  # seconds; after them a rank prints where it stands and ends itself, before its parent gives up
SMALL, LARGE = 1, 1 << 20  # float32 numbers: 4 B, 4 MB


def main(engine: str) -> int:
    """Import, meet, sum, time, part."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    _report("started")
    import torch

    from hvd_adam.comm import init

    _report("imported")
    world = init(engine)
    if world.rank == 0:
        _report("connected", size=world.size)
    hosts = [name.decode() for name in world.allgather_bytes(world.host.encode())]
    right = _sum_is_right(world)
    small, large = _time(world, SMALL, 200), _time(world, LARGE, 20)
    if world.rank == 0:
        _report("timed", hosts=hosts, right=right, small=small, large=large, fused=_fused(torch))
    world.close()
    if world.rank == 0:
        _report("parted")
    faulthandler.cancel_dump_traceback_later()
    return 0


def _report(phase: str, **facts: Any) -> None:
    sys.stdout.write(f"\n{MARK} {json.dumps({'phase': phase, **facts})}\n")
    sys.stdout.flush()


def _sum_is_right(world: World) -> bool:
    """Sum of rank + 1 over all ranks, on every rank: size (size + 1) / 2."""
    import torch

    tensor = torch.full((1000,), float(world.rank + 1))
    world.wait(world.start_allreduce(tensor, "doctor.sum"))
    right = bool((tensor == world.size * (world.size + 1) / 2).all())
    return all(content == b"1" for content in world.allgather_bytes(b"1" if right else b"0"))


def _time(world: World, length: int, rounds: int) -> list[float]:
    """Seconds of every round; the first few are left out."""
    import torch

    tensor = torch.zeros(length)

    def once() -> None:
        world.wait(world.start_allreduce(tensor, f"doctor.{length}"))

    for _ in range(3):
        once()
    return [_seconds(once) for _ in range(rounds)]


def _seconds(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _fused(torch: Any) -> dict[str, bool]:
    from hvd_adam.optim.kernel import fused_available

    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    kinds = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
    return {f"{device} {name}": fused_available(device, kind) for device in devices for name, kind in kinds.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
