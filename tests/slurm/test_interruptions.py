"""Jobs that are interrupted and go on: parameters, result and trace equal an undisturbed run's, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from conftest import TREE
from jobs import Job, submit
from trials import CONFIG, EVERY, STEPS, Trial, equals


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interruptions")


@pytest.fixture(scope="module")
def truth(folder: Path) -> Path:
    """The undisturbed run, on one rank, without Slurm."""
    run = folder / "undisturbed"
    command = [TREE / "launchers/local", "-n", "1", "--", sys.executable, "-m", "hvd_adam", "train", *CONFIG]
    environment = {**os.environ, "PYTHONPATH": str(TREE)}
    done = subprocess.run([*command, "--run", run], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return run


SPREAD = ("--nodes=2", "--ntasks-per-node=1", "--nodelist=n1,n2", "--time=10", "--signal=B:USR1@5")
ALONE = ("--nodes=1", "--ntasks-per-node=2", "--time=10", "--signal=B:USR1@5")

STANDS = f"0:{EVERY + 4}:data"  # where no warning is: however late the end comes, no other checkpoint is made before it


def time_limit(cluster: Cluster, folder: Path) -> Trial:
    """A limit set once steps are made, however long the start took. Slurm looks every 30 s: the signal comes soon."""
    trial = Trial(cluster, folder, "time limit", *SPREAD, "--signal=B:USR1@60", TEST_PAUSE="2")
    trial.reach(3)
    hours, minutes, _ = map(int, trial.job.facts()["RunTime"].split(":"))
    trial.ask("scontrol", "update", f"TimeLimit={60 * hours + minutes + 2}", "jobid=JOB")
    trial.release()
    trial.ask("scontrol", "update", "TimeLimit=10", "jobid=JOB")
    return trial


def too_late(cluster: Cluster, folder: Path) -> Job:
    """Ranks that do not hear: Slurm ends the job at its limit. (The second time they end by themselves.)"""
    deaf = folder / "deaf"
    deaf.write_text(
        f'#!/bin/sh\ntrap "" USR2\n[ ! -e "{folder}/again" ] || exit 0\ntouch "{folder}/again"\nsleep 300\n'
    )
    deaf.chmod(0o755)
    words = ("--nodelist=n5", "--time=1", "--signal=B:USR1@20", TREE / "slurm/train.sbatch", "c.yaml")
    return submit(cluster, *words, where=folder, HVD_ADAM_LAUNCHER=str(deaf))


def signal_and_other_ranks(cluster: Cluster, folder: Path) -> Trial:
    """Its cap is reached at once; another job, of one rank, goes on."""
    trial = Trial(cluster, folder, "signal", *SPREAD, HVD_ADAM_RESTARTS="0", TEST_PAUSE="1")
    trial.reach(3)
    trial.ask("scancel", "--batch", "--signal=USR1", "JOB")
    assert trial.job.end() == 75, trial.job.said()
    assert f"HVD_ADAM_RESTARTS allows no more: submit it with --run {trial.run} to go on" in trial.job.said()
    words = ("--nodelist=n5", TREE / "slurm/train.sbatch", *CONFIG, "--run", trial.run)
    trial.job = submit(cluster, *words, where=trial.job.where)
    return trial


def requeue(cluster: Cluster, folder: Path) -> Trial:
    trial = Trial(cluster, folder, "requeue", *SPREAD, HVD_ADAM_LAUNCHER="srun", TEST_STALL=STANDS)
    trial.reach(EVERY + 3)
    trial.ask("scontrol", "requeue", "JOB")
    trial.release()
    return trial


def evaluation(cluster: Cluster, folder: Path) -> Trial:
    """Asked to stop while it evaluates, which would take 20 s."""
    trial = Trial(cluster, folder, "evaluation", *SPREAD, TEST_PAUSE="0", TEST_EVALUATION_PAUSE="10")
    trial.reach(EVERY)
    trial.ask("scancel", "--batch", "--signal=USR1", "JOB")
    trial.release()
    return trial


def behind_a_shell(cluster: Cluster, folder: Path) -> Trial:
    """horovodrun ends as a shell that waits for mpirun."""
    words = {"HVD_ADAM_LAUNCHER": "horovodrun", "HVD_ADAM_NIC": "eth0", "TEST_PAUSE": "1"}
    trial = Trial(cluster, folder, "horovodrun", *SPREAD, **words)
    trial.reach(3)
    trial.ask("scancel", "--batch", "--signal=USR1", "JOB")
    trial.release()
    return trial


def preempted(cluster: Cluster, folder: Path, name: str, partition: str, node: str, **slow: str) -> Trial:
    """A job of more weight wants its node."""
    trial = Trial(cluster, folder, name, *ALONE, f"--nodelist={node}", f"--partition={partition}", **slow)
    trial.reach(EVERY + 3)
    words = (
        "--partition=urgent",
        f"--nodelist={node}",
        "--nodes=1",
        "--ntasks=4",
        "--output=/dev/null",
        "--wrap=sleep 1",
    )
    assert submit(cluster, *words, where=folder).end() == 0
    trial.release()
    return trial


def warned(cluster: Cluster, folder: Path) -> Trial:
    return preempted(cluster, folder, "warned", "patient", "n3", TEST_PAUSE="1")


def unwarned(cluster: Cluster, folder: Path) -> Trial:
    return preempted(cluster, folder, "unwarned", "main", "n4", TEST_STALL=STANDS)


SCENES = (time_limit, too_late, signal_and_other_ranks, requeue, evaluation, behind_a_shell, warned, unwarned)


@pytest.fixture(scope="module")
def scenes(session_cluster: Cluster, folder: Path) -> Iterator[dict[Any, Future[Any]]]:
    """All at once: most of their time goes into waiting."""
    with ThreadPoolExecutor(len(SCENES)) as pool:
        yield {scene: pool.submit(scene, session_cluster, folder) for scene in SCENES}
    session_cluster.run("scancel", "--user=root")


def test_time_limit(scenes: dict[Any, Future[Any]], truth: Path) -> None:
    trial = scenes[time_limit].result()
    assert trial.job.end() == 0, trial.job.said()
    assert "asked to stop" in trial.job.said() and "stopped at a checkpoint" in trial.job.said()
    assert 0 < trial.starts()[1] < STEPS
    assert equals(trial.run, truth)


def test_a_time_limit_that_comes_too_early_is_no_end_either(scenes: dict[Any, Future[Any]]) -> None:
    job = scenes[too_late].result()
    assert job.end() == 0, job.said()
    assert "the time limit came before the ranks had saved themselves; queued again" in job.said()


def test_scancel_signal_and_then_another_number_of_ranks(scenes: dict[Any, Future[Any]], truth: Path) -> None:
    trial = scenes[signal_and_other_ranks].result()
    assert trial.job.end() == 0, trial.job.said()
    assert 3 <= trial.starts()[1] < EVERY
    assert equals(trial.run, truth)


def test_requeue_without_warning_loses_one_interval_at_most(scenes: dict[Any, Future[Any]], truth: Path) -> None:
    trial = scenes[requeue].result()
    assert trial.job.end() == 0, trial.job.said()
    assert trial.starts()[1] == EVERY
    assert equals(trial.run, truth)


def test_an_evaluation_is_left_to_the_next_start(scenes: dict[Any, Future[Any]], truth: Path) -> None:
    trial = scenes[evaluation].result()
    assert trial.job.end() == 0, trial.job.said()
    assert trial.starts()[1] == EVERY and trial.job.said().count(f"step {EVERY}/{STEPS}") == 1
    assert equals(trial.run, truth)


def test_the_request_to_stop_reaches_the_ranks_of_horovodrun(scenes: dict[Any, Future[Any]], truth: Path) -> None:
    trial = scenes[behind_a_shell].result()
    assert trial.job.end() == 0, trial.job.said()
    assert "stopped at a checkpoint" in trial.job.said()
    assert 3 <= trial.starts()[1] < EVERY
    assert equals(trial.run, truth)


def test_preemption_with_warning_loses_nothing(scenes: dict[Any, Future[Any]], truth: Path) -> None:
    trial = scenes[warned].result()
    assert trial.job.end() == 0, trial.job.said()
    assert "asked to stop" in trial.job.said() and "stopped at a checkpoint" in trial.job.said()
    assert EVERY < trial.starts()[1] < STEPS
    assert equals(trial.run, truth)


def test_preemption_without_warning_loses_one_interval_at_most(scenes: dict[Any, Future[Any]], truth: Path) -> None:
    trial = scenes[unwarned].result()
    assert trial.job.end() == 0, trial.job.said()
    assert trial.starts()[1] == EVERY
    assert equals(trial.run, truth)
