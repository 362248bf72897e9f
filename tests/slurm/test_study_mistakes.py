"""What a person can get wrong with a study on a cluster: one message, its exit code, nothing left in the queue."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cluster import Cluster
from conftest import TREE
from jobs import Job, submit
from studies import hvd_adam, queued, wait_for

SMALL = """
name: small
base: {task: {name: digits, model: softmax}, algorithm: {name: adam, lr: 0.01}, determinism: exact}
grid: {workers: [1, 8]}
seeds: [1]
targets: [{measure: loss, at_most: 1.0}]
budget: {steps: 30}
ranks: 8
"""
WORDS = ("study", "submit", "small.yaml", "--no-timing")


@pytest.fixture
def where(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "said", "cure"),
    [
        (("--partition=nowhere",), "invalid partition specified: nowhere", "Sinfo lists the partitions"),
        (("--time=soon",), "Invalid --time specification", "as in -- --time=04:00:00"),
        (("--no-such-option",), "unrecognized option '--no-such-option'", "Man sbatch lists"),
        (("--mem=1000000",), "Requested node configuration is not available", "Sinfo shows nodes and cores"),
    ],
)
def test_what_slurm_refuses_is_said_in_its_words_with_a_cure_and_nothing_stays_queued(
    cluster: Cluster, where: Path, options: tuple[str, ...], said: str, cure: str
) -> None:
    done = hvd_adam(cluster, where, *WORDS, "--tasks-per-node", "2", "--", *options)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("hvd-adam: Slurm does not take the job.\n  It says: ") and said in done.stderr
    assert cure in done.stderr.splitlines()[-1] and len(done.stderr.splitlines()) == 3
    wait_for(lambda: not queued(cluster, "small"), where)
    fresh = hvd_adam(cluster, where, *WORDS, "--tasks-per-node", "2", "--dry-run")
    assert fresh.returncode == 0 and fresh.stdout.startswith("2 runs to submit\n"), fresh.stdout + fresh.stderr


def test_more_nodes_than_there_are_would_wait_for_ever_and_are_refused(cluster: Cluster, where: Path) -> None:
    done = hvd_adam(cluster, where, *WORDS)
    assert done.returncode == 2
    assert done.stderr == (
        "hvd-adam: 8 nodes for 8 ranks.\n"
        "  Partition main has 5, so Slurm would let the job wait for ever (PartitionNodeLimit).\n"
        "  Put more ranks on each: --tasks-per-node 2; or name another partition.\n"
    )
    assert not queued(cluster, "small")


def test_a_cap_refuses_with_the_number_and_submits_nothing(cluster: Cluster, where: Path) -> None:
    done = hvd_adam(cluster, where, "study", "submit", "small.yaml", "max_node_hours=0.001", "grid.workers=[1, 2]")
    assert done.returncode == 2
    assert re.match(r"hvd-adam: up to 0\.0\d+ node-hours\.\n  Max_node_hours is 0\.001\.", done.stderr, re.IGNORECASE)
    assert not queued(cluster, "small")


def end_of_first(cluster: Cluster, where: Path, *options: str, **more: str) -> tuple[Job, str]:
    """A study whose first array is the allocation of one rank: how that ended, and what it printed."""
    words = (*WORDS, "grid.workers=[1, 2]", "--", *options)
    done = hvd_adam(cluster, where, *words, **more)
    assert done.returncode == 0, done.stderr
    first = min(int(name.partition("_")[0]) for name in queued(cluster, "small"))
    return Job(cluster, first, where), done.stdout


def log(where: Path) -> str:
    return "".join(path.read_text() for path in sorted(where.glob("runs/small/submissions/1/log/small-1-rank-*.out")))


def test_a_study_that_is_edited_between_submit_and_start_is_not_mixed(cluster: Cluster, where: Path) -> None:
    job, _ = end_of_first(cluster, where, "--hold")
    study = where / "runs" / "small" / "study.yaml"
    study.write_text(study.read_text().replace("lr: 0.01", "lr: 0.02"))
    cluster.run("scontrol", "release", str(job.number))
    assert job.end() == 2, log(where)
    said = log(where)
    assert (
        "workers-1/seed-1 is another run than when the study was submitted: algorithm" in said
        and "Traceback" not in said
    )
    assert job.facts()["Restarts"] == "0"
    cluster.run("scontrol", "release", *[name.partition("_")[0] for name in queued(cluster, "small")])
    wait_for(lambda: not queued(cluster, "small"), where)
    assert "2 failed" in hvd_adam(cluster, where, "study", "status", "runs/small").stdout


def test_a_sites_file_that_fails_ends_the_job_with_2(cluster: Cluster, where: Path) -> None:
    (where / "site.sh").write_text("module load nothing-of-that-name 2>/dev/null\n")
    job, _ = end_of_first(cluster, where, HVD_ADAM_SITE=str(where / "site.sh"))
    assert job.end() == 2
    assert f"hvd-adam: {where}/site.sh ended with 127.\n  It sets up the environment of the job.\n" in log(where)


def test_an_element_beyond_the_arrays_end_is_said(cluster: Cluster, where: Path) -> None:
    job, _ = end_of_first(cluster, where, "--hold")
    hvd_adam(cluster, where, "study", "cancel", "runs/small")
    words = ("--array=7", TREE / "slurm/study.sbatch", "make", where / "runs/small", "1", "1-rank", "0")
    wrong = submit(cluster, "--output=wrong-%A.out", *words, where=where)
    assert wrong.end() == 2
    said = wrong.said()
    assert (
        "hvd-adam: element 7 of array 1-rank.\n  Submission 1 has 1 allocations in it, and they count from 0.\n" in said
    )
    assert job.facts()["JobState"] == "CANCELLED"


def test_a_number_of_restarts_that_is_used_up_ends_with_75_and_the_way_on(cluster: Cluster, where: Path) -> None:
    hold = where / "hold"
    hold.touch()
    slow = {"PYTHONPATH": f"{TREE}/tests/slurm/faults:{TREE}", "TEST_HOLD": str(hold), "TEST_PAUSE": "1"}
    job, _ = end_of_first(cluster, where, HVD_ADAM_RESTARTS="0", **slow)
    trace = where / "runs/small/workers-1/seed-1/trace.jsonl"
    wait_for(lambda: trace.exists() and '"kind": "step"' in trace.read_text(), where)
    cluster.run("scancel", "--batch", "--signal=USR1", str(job.number))
    assert job.end() == 75, log(where)
    assert "allows no more: hvd-adam study submit with --resubmit failed goes on with it" in log(where)
    hold.unlink()
