"""Jobs on a cluster: submitted, watched and waited for, by Slurm's own programs."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster import Cluster

ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "OUT_OF_MEMORY"}


class Job:
    """A job that was submitted from the folder `where`."""

    def __init__(self, cluster: Cluster, number: int, where: Path) -> None:
        self.cluster, self.number, self.where = cluster, number, where

    def facts(self) -> dict[str, str]:
        """What scontrol says of it."""
        shown = self.cluster.run("scontrol", "-o", "show", "job", str(self.number))
        assert shown.returncode == 0, shown.stderr
        return dict(re.findall(r"(\S+?)=(\S*)", shown.stdout))

    def said(self) -> str:
        """What it has written so far."""
        return "".join(path.read_text() for path in self.where.glob(f"*-{self.number}.out"))

    def wait(self, claim: Callable[[], Any], patience: float = 300.0) -> None:
        """Returns when the claim is true.

        A job that is queued again waits cred_expire + 1 s, and nothing may hasten that: its nodes have revoked its
        credential for so long, and would end a start before it has said a word.
        """
        deadline = time.monotonic() + patience
        while not claim():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {patience:g} s in vain: {self.facts()}\n{self.said()}")
            time.sleep(0.3)

    def end(self, patience: float = 300.0) -> int:
        """Waits for its end; the exit code of its batch script."""
        self.wait(lambda: self.facts()["JobState"] in ENDED, patience)
        code, signal = map(int, self.facts()["ExitCode"].split(":"))
        return code or (128 + signal if signal else 0)


def submit(cluster: Cluster, *words: str | Path, where: Path, **environment: str) -> Job:
    """Runs sbatch with these words, from the folder `where`."""
    done = sbatch(cluster, *words, where=where, **environment)
    assert done.returncode == 0, done.stderr
    return Job(cluster, int(done.stdout.split()[-1]), where)


def sbatch(cluster: Cluster, *words: str | Path, where: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What sbatch says and ends with."""
    return cluster.run("sbatch", *words, where=where, **environment)
