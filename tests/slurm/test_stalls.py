"""Faults that give no signal: watchdogs end the job everywhere, diagnose names the rank, and the run goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import network
import pytest
from cluster import Cluster
from trials import EVERY, Trial

LIMIT = "stall_limit=10"
STALLS = {  # what rank 1 does in step 23, and what diagnose must say of it while it lasts, or after
    "data": ("is behind: in data of step 23 for ",),
    "backward": ("is behind: in backward of step 23 for ",),
    "stop": ("is silent: in ", "fell silent first: in "),
}
OPTIONS = ("--nodes=2", "--ntasks-per-node=1", "--time=10")


def diagnose(cluster: Cluster, run: Path) -> subprocess.CompletedProcess[str]:
    return cluster.run("python", "-m", "hvd_adam", "diagnose", run, timeout=120)


def found(cluster: Cluster, run: Path, words: tuple[str, ...]) -> bool:
    done = diagnose(cluster, run)
    return done.returncode == 4 and any(f"rank 1 on n2 {one}" in done.stdout for one in words)


def stall(cluster: Cluster, folder: Path, kind: str) -> tuple[Trial, bool]:
    trial = Trial(
        cluster,
        folder,
        kind,
        *OPTIONS,
        "--nodelist=n1,n2",
        more=(LIMIT,),
        TEST_PAUSE="0",
        TEST_STALL=f"1:{EVERY + 3}:{kind}",
    )
    trial.reach(EVERY + 2)
    named = False

    def ended_or_named() -> bool:
        nonlocal named
        named = named or found(cluster, trial.run, STALLS[kind])
        return named or trial.job.facts()["Restarts"] != "0"

    trial.job.wait(ended_or_named)  # its last words lie there until the next start: no hurry with that
    named = named or found(cluster, trial.run, STALLS[kind])
    trial.release()
    return trial, named


def cut(cluster: Cluster, folder: Path) -> tuple[Trial, bool]:
    trial = Trial(cluster, folder, "cut", *OPTIONS, "--nodelist=n3,n4", more=(LIMIT,))
    trial.reach(EVERY + 2)
    network.cut(cluster, "n3", "n4")
    trial.job.wait(lambda: trial.job.facts()["JobState"] != "RUNNING")
    network.mend(cluster, "n3", "n4")
    trial.release()
    return trial, "all ranks wait for each other" in diagnose(cluster, trial.run).stdout


@pytest.fixture(scope="module")
def scenes(session_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Any]]]:
    """All at once."""
    folder = tmp_path_factory.mktemp("stalls")
    with ThreadPoolExecutor(4) as pool:
        started = {kind: pool.submit(stall, session_cluster, folder, kind) for kind in STALLS}
        yield {**started, "cut": pool.submit(cut, session_cluster, folder)}
    session_cluster.run("scancel", "--user=root")


@pytest.mark.parametrize("kind", STALLS)
def test_a_rank_that_stands_still_is_named_ended_and_the_run_goes_on(scenes: dict[str, Future[Any]], kind: str) -> None:
    trial, named = scenes[kind].result()
    assert trial.job.end() == 0, trial.job.said()
    assert named
    assert "Timeout (0:00:10)!" in trial.job.said() and "most recent call first" in trial.job.said()
    assert trial.starts()[1] == EVERY


def test_a_cut_network_ends_all_ranks_and_the_run_goes_on(scenes: dict[str, Future[Any]]) -> None:
    """Slurm sees nothing of it."""
    trial, _ = scenes["cut"].result()
    assert trial.job.end() == 0, trial.job.said()
    assert "Timeout (0:00:10)!" in trial.job.said()
    assert trial.starts()[1] == EVERY
