"""The processes of a cluster's jobs, found from outside: what a test may kill."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import Cluster


@dataclass(frozen=True)
class Process:
    """One of them, with its number out here."""

    number: int
    parent: int
    words: list[str]
    environment: dict[str, str]

    @property
    def name(self) -> str:
        """The last part of the program's path."""
        return Path(self.words[0]).name if self.words else ""

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.number, signal.SIGKILL)


def of_cluster(cluster: Cluster) -> Iterator[Process]:
    """All that were started for it, wherever they are by now."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment = (place / "environ").read_bytes()
            if f"SLURM_CONF={cluster.folder}/".encode() not in environment:
                continue
            words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        pairs = (word.partition("=")[::2] for word in environment.decode(errors="replace").split("\0"))
        yield Process(int(place.name), parent, words, dict(pairs))


def ranks(cluster: Cluster, job: str) -> list[Process]:
    """Of a job that mpirun has started, in their order."""
    found = [
        p for p in _of_job(cluster, job) if p.name.startswith("python") and "OMPI_COMM_WORLD_RANK" in p.environment
    ]
    return sorted(found, key=lambda p: int(p.environment["OMPI_COMM_WORLD_RANK"]))


def mpirun(cluster: Cluster, job: str) -> list[Process]:
    """The one that rules the others."""
    return [p for p in _of_job(cluster, job) if p.name == "mpirun"]


def batch_script(cluster: Cluster, job: str) -> list[Process]:
    """The shell itself, not those that it has made of itself to watch."""
    shells = [p for p in _of_job(cluster, job) if any(word.endswith("/slurm_script") for word in p.words)]
    own = {p.number for p in shells}
    return [p for p in shells if p.parent not in own]


def slurmd(cluster: Cluster, node: str) -> list[Process]:
    """Of a node."""
    named = (p for p in of_cluster(cluster) if p.name == "slurmd" and p.words[p.words.index("-N") + 1] == node)
    return list(named)


def _of_job(cluster: Cluster, job: str) -> list[Process]:
    """Those of a job's number; of an array, of its one element."""
    whole = job.partition("_")[0]
    return [
        p for p in of_cluster(cluster)
        if whole in (p.environment.get("SLURM_JOB_ID"), p.environment.get("SLURM_ARRAY_JOB_ID"))
    ]  # fmt: skip
