"""One job in a run directory: who is refused, and whose lock is left over. The other nodes are made up."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvd_adam.comm.solo import SoloWorld
from hvd_adam.config import from_plain
from hvd_adam.training import run_lock
from hvd_adam.training.loop import train
from hvd_adam.training.run_lock import InUse, held
from hvd_adam.training.rundir import keep_config, open_run

HOLD = """
import sys, time
from pathlib import Path
from hvd_adam.comm.solo import SoloWorld
from hvd_adam.training.run_lock import held
with held(SoloWorld(), Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
ELSEWHERE = {"host": "n9", "process": os.getpid(), "since": "2026-11-24 23:58:46"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "ENDING", 0.3)
    monkeypatch.setattr(run_lock, "WATCH", 1.0)
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that trains in tmp_path, as job 71_3."""
    environment = {**os.environ, "SLURM_ARRAY_JOB_ID": "71", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "74"}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def squeue(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "bin").mkdir()
    (folder / "bin" / "squeue").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "bin" / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def is_free(run: Path) -> bool:
    try:
        with held(SoloWorld(), run):
            return True
    except InUse:
        return False


def test_a_second_job_is_refused_and_told_who_is_there(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(InUse) as refused, held(SoloWorld(), tmp_path):
        pass
    error = refused.value
    assert error.exit_code == 1
    assert error.found == f"run directory {tmp_path} is in use"
    assert error.why.startswith(f"job 71_3, process {holder.pid} on {socket.gethostname()} has trained in it since 20")
    assert error.cure == "wait for it, or cancel it: scancel 71_3; or name another folder with --run"


def test_a_folder_that_is_taken_just_now_is_refused_though_nobody_is_named_yet(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not is_free(tmp_path)
    assert is_free(tmp_path)


def test_a_second_train_is_one_message_and_exit_code_1(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    config = Path(__file__).resolve().parents[2] / "configs" / "quadratic.yaml"
    (tmp_path / "lock").rename(tmp_path / "kept")
    words = [sys.executable, "-m", "hvd_adam", "train", str(config), "steps=3", "--run", str(tmp_path / "run")]
    first = subprocess.run(words, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    (tmp_path / "run" / "lock").unlink()
    (tmp_path / "kept").rename(tmp_path / "run" / "lock")  # the same file, still locked
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"hvd-adam: run directory {tmp_path / 'run'} is in use.\n  Job 71_3, process")
    assert "Traceback" not in done.stderr


def test_a_lock_ends_with_its_process_however_that_ends(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    assert json.loads((tmp_path / "lock").read_text())["process"] == holder.pid  # it could not take that back
    assert is_free(tmp_path)


def test_after_an_end_in_good_order_or_by_an_error_nothing_is_left_of_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), held(SoloWorld(), tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["process"] == os.getpid()
        raise ZeroDivisionError
    assert (tmp_path / "lock").read_text() == ""
    assert is_free(tmp_path)


@pytest.mark.parametrize(
    ("said", "free"),
    [
        ("echo RUNNING", False),
        ("echo COMPLETING", False),
        ("echo PENDING", True),  # it was queued again, and will find us here
        (":", True),  # it has ended
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", True),
    ],
)
def test_of_another_node_slurm_says_whether_the_job_is_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, free: bool
) -> None:
    """A file system whose locks do not reach other nodes: the lock itself can be taken."""
    squeue(tmp_path, said, monkeypatch)
    (tmp_path / "lock").write_text(json.dumps({**ELSEWHERE, "job": "71_3"}))
    assert is_free(tmp_path) is free


def test_a_jobs_own_earlier_start_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue(tmp_path, "echo RUNNING", monkeypatch)
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    (tmp_path / "lock").write_text(json.dumps({**ELSEWHERE, "job": "71"}))
    assert is_free(tmp_path)


@pytest.mark.parametrize("beats", [True, False])
def test_without_slurm_a_heartbeat_tells(tmp_path: Path, beats: bool) -> None:
    (tmp_path / "lock").write_text(json.dumps(ELSEWHERE))
    heart = tmp_path / "heartbeats" / "rank-0.json"
    heart.parent.mkdir()
    heart.write_text("1")
    beat = threading.Timer(0.4, lambda: heart.write_text("2" if beats else "1"))
    beat.start()
    started = time.monotonic()
    assert is_free(tmp_path) is not beats
    assert beats or time.monotonic() - started > 0.9  # it was given its time
    beat.join()


@pytest.mark.parametrize("begun", [True, False], ids=["a run", "a folder that is new to both"])
def test_a_start_that_is_refused_leaves_the_config_of_the_run_that_goes_on(begun: bool, tmp_path: Path) -> None:
    """Its longer budget and other facts of the launch are written down only once it holds the run."""
    config = from_plain({"task": "digits", "steps": 10, "evaluate": {}})
    longer = from_plain({"task": "digits", "steps": 20, "evaluate": {}})
    world, run = SoloWorld(), tmp_path / "run"
    path = open_run(world, config, str(run), resume=False)
    with held(world, path):
        if begun:
            keep_config(world, path, config)
        with pytest.raises(InUse):
            train(longer, str(run), resume=True, world=SoloWorld())
        assert [one.read_text() for one in run.glob("config.yaml")] == [config.to_yaml()] * begun
    train(longer, str(run), resume=True, world=SoloWorld())
    assert (run / "config.yaml").read_text() == longer.to_yaml()


def test_a_folder_whose_start_was_killed_with_the_lock_alone_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("")
    result = train(from_plain({"task": "digits", "steps": 2, "evaluate": {}}), str(tmp_path), resume=False)
    assert result is not None and result.step == 2
