"""Faults of the network between the nodes of a cluster."""

from __future__ import annotations

from cluster import Cluster


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


def limit_rate(cluster: Cluster, node: str, rate: str | None) -> None:
    """What a node sends passes at `rate`, as in "100mbit"; None: as fast as it can."""
    shape = ("root", "tbf", "rate", rate, "burst", "64kb", "latency", "400ms") if rate else ("root",)
    _do(cluster, node, "tc", "qdisc", "replace" if rate else "delete", "dev", "eth0", *shape)


def _do(cluster: Cluster, node: str | None, *command: str) -> None:
    done = cluster.run(*command, node=node)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} on {node or 'the controller'}: {done.stderr.strip()}")
