"""One rank of a peer's job: it says what it is, and takes steps when it is told to.

    python -m hvd_adam.bench.station HOST:PORT TOKEN CREW

Orders and answers are lines of JSON over one connection to the driver, so that ranks that wait for their turn
wait in the kernel and not in a collective.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

Act = Callable[[int], float | None]  # takes a size, where there are sizes; gives its seconds, where it has a clock


class Line:
    """The connection to the driver."""

    def __init__(self, address: str, hello: dict[str, Any]) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._socket.settimeout(None)
        self._file = self._socket.makefile("rw", encoding="utf-8", newline="\n")
        self.say(**hello)

    def say(self, **facts: Any) -> None:
        """Sends one line."""
        self._file.write(json.dumps(facts) + "\n")
        self._file.flush()

    def hear(self) -> dict[str, Any] | None:
        """The next line; None once the driver has gone."""
        text = self._file.readline()
        return json.loads(text) if text else None


def main(address: str, token: str, crew: str) -> int:
    """Builds what the driver asks for, then obeys until the driver hangs up."""
    line = Line(address, {"token": token, "crew": crew, "pid": os.getpid(), "host": socket.gethostname()})
    order = line.hear()
    while order is not None:
        if "build" in order:
            act, before = _build(order)
            line.say(before=before, memory=_peak_memory())
        else:
            line.say(seconds=_timed(act, order["size"], order["warm"], order["steps"]), memory=_peak_memory())
        order = line.hear()
    os._exit(0)  # the driver has what it wants: nobody waits for MPI's farewell


def _timed(act: Act, size: int, warm: int, steps: int) -> list[float]:
    for _ in range(warm):
        act(size)
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        own = act(size)
        seconds.append(time.perf_counter() - started if own is None else own)
    return seconds


def _build(order: dict[str, Any]) -> tuple[Act, int]:
    """What the order asks for, and the bytes that this process held before it was built."""
    if order["build"] == "exchange":
        from hvd_adam.bench.exchange import exchange

        return exchange(order["engine"], order["piece"]), _peak_memory()
    if order["build"] == "optimizer":
        from hvd_adam.bench import optimizer

        before = _peak_memory()
        return optimizer.build(order["peer"], order["parameters"], order["dtype"]), before
    import torch

    from hvd_adam.bench.names import OURS
    from hvd_adam.bench.peers import PEERS, ours_with_workers
    from hvd_adam.bench.workloads import DTYPES, loaded, workload

    torch.manual_seed(0)
    chosen = PEERS[order.get("peer", OURS)]
    for module in ("torchvision", *chosen.imports):
        with suppress(ImportError):
            import_module(module)
    before = _peak_memory()
    load = workload(order["model"])
    if order["build"] == "workers":
        return ours_with_workers(load), before
    if chosen.group:
        import torch.distributed as dist

        dist.init_process_group(chosen.group, init_method=order["store"], rank=order["rank"], world_size=order["ranks"])
    step = chosen.build(*loaded(load, order["samples"], DTYPES[order["dtype"]]))
    return lambda _: step(), before


def _peak_memory() -> int:
    """Bytes: the most that this process has held so far; what ranks hold together counts once, in equal shares."""
    with suppress(OSError, KeyError):  # no /proc, or a kernel before 5.4
        kept = dict(line.split(":", 1) for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        seen, share = (int(text.split()[0]) for text in (status["RssShmem"], kept["Pss_Shmem"]))
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - seen + share) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
