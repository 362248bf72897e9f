"""A long cable between two nodes: each packet arrives a while after it was sent, and none overtakes another.

    python cable.py PROCESS PROCESS SECONDS       as root; a process of each node, and how long a packet travels

Both nodes get a device "far" that leads to the other one, and lose it when this program ends. The kernel has something
for the same purpose (netem), but not every kernel does.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque
from contextlib import suppress

NEW_NETWORK, SET_DEVICE, PACKETS_ALONE = 0x40000000, 0x400454CA, 0x1001  # CLONE_NEWNET, TUNSETIFF, IFF_TUN | IFF_NO_PI
LARGEST = 1 << 16


def device(process: int) -> int:
    """The end of a new device in the network of that process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{process}/ns/net") as network:
        if libc.setns(network.fileno(), NEW_NETWORK):
            raise OSError(ctypes.get_errno(), f"the network of process {process}")
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, SET_DEVICE, struct.pack("16sH22x", b"far", PACKETS_ALONE))
    return end


def carry(one: int, other: int, seconds: float) -> None:
    """Reads from each end, and writes to the other when it is time."""
    ways: dict[int, tuple[int, deque[tuple[float, bytes]]]] = {one: (other, deque()), other: (one, deque())}
    while True:
        first = min((way[0][0] for _, way in ways.values() if way), default=None)
        patience = None if first is None else max(0.0, first - time.monotonic())
        ready, _, _ = select.select(list(ways), [], [], patience)
        for end in ready:
            with suppress(BlockingIOError):
                for _ in range(64):
                    ways[end][1].append((time.monotonic() + seconds, os.read(end, LARGEST)))
        now = time.monotonic()
        for there, way in ways.values():
            while way and way[0][0] <= now:
                packet = way.popleft()[1]
                with suppress(OSError):  # the other end is down: it is lost, as on any cable
                    os.write(there, packet)


if __name__ == "__main__":
    ends = [device(int(process)) for process in sys.argv[1:3]]
    print("ready", flush=True)
    carry(*ends, seconds=float(sys.argv[3]))
