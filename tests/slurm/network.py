"""Faults of the network between the nodes of a cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster import Cluster

CABLE = Path(__file__).resolve().parent / "cable.py"
_PACKET = "60000"  # bytes of the largest on a long cable: what carries them is a program, and few are less work for it


def link(cluster: Cluster, node: str, up: bool) -> None:
    """Pulls a node's cable, or puts it back."""
    _do(cluster, None, "ip", "link", "set", f"v{node[1:]}", "up" if up else "down")


def cut(cluster: Cluster, one: str, other: str) -> None:
    """No word passes between two nodes any more; both still reach the controller, so Slurm sees nothing."""
    for here, there in ((one, other), (other, one)):
        _do(cluster, here, "ip", "route", "add", "blackhole", f"10.77.0.{there[1:]}/32")


def mend(cluster: Cluster, one: str, other: str) -> None:
    """Undoes `cut`."""
    for here, there in ((one, other), (other, one)):
        _do(cluster, here, "ip", "route", "delete", "blackhole", f"10.77.0.{there[1:]}/32")


def limit_rate(cluster: Cluster, node: str, rate: str | None, device: str = "eth0") -> None:
    """What a node sends passes at `rate`, as in "100mbit"; None: as fast as it can."""
    shape = ("root", "tbf", "rate", rate, "burst", "64kb", "latency", "400ms") if rate else ("root",)
    _do(cluster, node, "tc", "qdisc", "replace" if rate else "delete", "dev", device, *shape)


@contextmanager
def limited(cluster: Cluster, rate: str | None, nodes: Sequence[str] = ("n1", "n2")) -> Iterator[None]:
    """Meanwhile what these nodes send passes at `rate`, as `limit_rate` has it."""
    for node in nodes if rate else ():
        limit_rate(cluster, node, rate)
    try:
        yield
    finally:
        for node in nodes if rate else ():
            limit_rate(cluster, node, None)


@contextmanager
def far_apart(cluster: Cluster, one: str, other: str, seconds: float, rate: str | None = None) -> Iterator[None]:
    """Meanwhile what two nodes send each other travels so many seconds, at `rate` as `limit_rate` has it."""
    command = [sys.executable, CABLE, *(cluster.enter(node)[2] for node in (one, other)), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as cable:
        try:
            assert cable.stdout is not None and cable.stdout.readline() == "ready\n"
            for here, there in ((one, other), (other, one)):
                _do(cluster, here, "ip", "link", "set", "far", "up", "mtu", _PACKET, "txqueuelen", "1000")
                to, source = (f"10.77.0.{node[1:]}" for node in (there, here))
                _do(cluster, here, "ip", "route", "add", f"{to}/32", "dev", "far", "src", source)
                if rate:
                    limit_rate(cluster, here, rate, device="far")
            yield
        finally:
            cable.kill()


def _do(cluster: Cluster, node: str | None, *command: str) -> None:
    done = cluster.run(*command, node=node)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} on {node or 'the controller'}: {done.stderr.strip()}")
