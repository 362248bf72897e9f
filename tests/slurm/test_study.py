"""A study on a real cluster: the same step counts as on one machine, no run made twice, none lost."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from campaign import CAMPAIGN, keep
from cluster import Cluster
from conftest import TREE
from studies import calls, here, hvd_adam, node_hours, queued, starts, steps, wait_for

TWELVE = """
name: twelve
base: {task: {name: digits, model: softmax}, algorithm: {name: adam, lr: 0.01}, determinism: exact}
grid: {workers: [1, 2, 4], local_batch: [2, 4, 8, 16]}
seeds: [3]
targets: [{measure: loss, at_most: 0.6}]
budget: {steps: 400}
ranks: 2
max_node_hours: 5
"""
AT_ONCE = "2"
if CAMPAIGN:  # every run uses its budget, and has its cores alone: what is estimated at most should be used
    AT_ONCE = "1"
    TWELVE = TWELVE.replace("at_most: 0.6", "at_most: 0.0001").replace("steps: 400", "steps: 1000")
TUNED = """
name: tuned
base: {task: {name: digits, model: softmax}, algorithm: {name: adam, lr: 0.01}, determinism: exact, local_batch: 4}
grid: {workers: [1, 2]}
seeds: [3]
lr: {tune: [0.1, 1.0], tuning_seeds: 1}
targets: [{measure: loss, at_most: 0.8}]
budget: {steps: 150}
"""
DISTURBED = """
name: disturbed
base: {task: {name: digits, model: softmax}, algorithm: {name: adam, lr: 0.0001}, determinism: exact,
       checkpoint: {every: 10}}
grid: {workers: [2, 4]}
seeds: [1, 2]
targets: [{measure: loss, at_most: 0.01}]
budget: {steps: 40}
ranks: 2
"""


@pytest.fixture
def where(tmp_path: Path) -> Path:
    place = tmp_path / "a place with blanks"
    place.mkdir()
    for text in (TWELVE, TUNED, DISTURBED):
        (place / f"{text.split()[1]}.yaml").write_text(text)
    return place


def test_a_study_of_twelve_cells_ends_with_the_report_of_the_local_one(cluster: Cluster, where: Path) -> None:
    words = ("study", "submit", "twelve.yaml", "--pack", "0.5", "--at-once", AT_ONCE)
    shown = hvd_adam(cluster, where, *words, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert [path.name for path in (where / "runs" / "twelve").iterdir() if path.is_file()] == ["costs.json"]
    assert (TREE / "slurm" / "study.sbatch").read_text() in shown.stdout
    with cluster.asleep():
        _submit_and_look(cluster, where, words, shown.stdout)
    wait_for(lambda: not queued(cluster, "twelve"), where)
    here(where, "study", "run", "twelve.yaml", "--folder", "runs/local")
    theirs = steps(where / "runs" / "twelve")
    assert len(theirs) == 12 and theirs == steps(where / "runs" / "local")
    assert set(map(tuple, starts(where / "runs" / "twelve").values())) == {(0,)}
    assert (where / "runs" / "twelve" / "report.html").is_file()
    nothing = hvd_adam(cluster, where, *words)
    assert (nothing.returncode, nothing.stdout) == (0, "0 runs to submit; 12 done\n")
    if CAMPAIGN:
        _keep_node_hours(cluster, where, words, shown.stdout)


def _submit_and_look(cluster: Cluster, where: Path, words: tuple[str, ...], shown: str) -> None:
    """What is submitted is what --dry-run has shown, and submitting again while it is queued changes nothing."""
    done = hvd_adam(cluster, where, *words)
    assert done.returncode == 0, done.stderr
    assert calls(shown) == calls(done.stdout)
    again = hvd_adam(cluster, where, *words)
    assert (again.returncode, "12 queued or running" in again.stdout) == (0, True), again.stdout + again.stderr
    told = hvd_adam(cluster, where, "study", "status", "runs/twelve")
    assert "12 queued or running" in told.stdout and re.search(r"job \d+_0 queued", told.stdout), told.stdout


def _keep_node_hours(cluster: Cluster, where: Path, words: tuple[str, ...], shown: str) -> None:
    """What was estimated and what Slurm says was used, the report left out: of the study, and of a second seed."""
    before = node_hours(cluster, "twelve")
    early = sum(by == "target" for _, by in steps(where / "runs" / "twelve").values())
    keep("node-hours", [{"from": "a timing", "estimate": _told(shown), "used": before, "at target": early}])
    (where / "twelve.yaml").write_text(TWELVE.replace("seeds: [3]", "seeds: [3, 4]"))
    done = hvd_adam(cluster, where, *words)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: not queued(cluster, "twelve"), where)
    used = {name: hours - before[name] for name, hours in node_hours(cluster, "twelve").items()}
    keep("node-hours", [{"from": "finished runs", "estimate": _told(done.stdout), "used": used}])


def _told(shown: str) -> float:
    found = re.search(r"at most (\S+) node-hours", shown)
    assert found, shown
    return float(found[1])


def test_a_tuned_study_submitted_from_inside_a_job_without_arrays_picks_what_the_local_one_picks(
    cluster: Cluster, where: Path
) -> None:
    """The outer job's variables would lead sbatch astray: a partition that does not exist, three tasks."""
    inner = (sys.executable, "-m", "hvd_adam", "study", "submit", "tuned.yaml", "--array-size", "1", "--no-timing")
    outer = ("srun", "-N1", "-n1", "env", "SBATCH_PARTITION=nowhere", "SLURM_NTASKS=3", *inner)
    done = cluster.run(*outer, where=where, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "--array" not in done.stdout
    wait_for(lambda: not queued(cluster, "tuned"), where)
    here(where, "study", "run", "tuned.yaml", "--folder", "runs/local")
    theirs, ours = where / "runs" / "tuned", where / "runs" / "local"
    assert len(steps(theirs)) == 6 and steps(theirs) == steps(ours)
    assert json.loads((theirs / "picks.json").read_text()) == json.loads((ours / "picks.json").read_text())


def test_a_study_runs_here_inside_a_job_of_fewer_tasks_than_its_runs_have_ranks(cluster: Cluster, where: Path) -> None:
    words = (sys.executable, "-m", "hvd_adam", "study", "run", "twelve.yaml", "seeds=[3]", "grid.local_batch=[16]")
    for outer in (("srun", "-N1", "-n1"), ("salloc", "-N1", "-n1", "srun")):
        done = cluster.run(*outer, *words, "--folder", f"runs/{outer[0]}", where=where, timeout=120)
        assert done.returncode == 0, done.stderr
    here(where, "study", "run", *words[5:], "--folder", "runs/local")
    assert steps(where / "runs/srun") == steps(where / "runs/salloc") == steps(where / "runs/local")
    assert len(steps(where / "runs/local")) == 3


def test_whatever_ends_an_allocation_its_runs_are_made_and_the_others_are_not_disturbed(
    cluster: Cluster, where: Path
) -> None:
    hold, folder = where / "hold", where / "runs" / "disturbed"
    hold.touch()
    slow = {"PYTHONPATH": f"{TREE}/tests/slurm/faults:{TREE}", "TEST_HOLD": str(hold), "TEST_PAUSE": "1"}
    words = (
        "study",
        "submit",
        "disturbed.yaml",
        "--pack",
        "0",
        "--at-once",
        "3",
        "--tasks-per-node",
        "2",
        "--no-timing",
    )
    done = hvd_adam(cluster, where, *words, **slow)
    assert done.returncode == 0, done.stderr
    array = min((name.partition("_")[0] for name in queued(cluster, "disturbed") if "_" in name), key=int)
    runs = [f"workers-{w}/seed-{s}" for w in (2, 4) for s in (1, 2)]

    def made(run: str) -> int:
        trace = folder / run / "trace.jsonl"
        return trace.read_text().count('"kind": "step"') if trace.exists() else 0

    wait_for(lambda: all(made(run) >= 12 for run in runs[:3]), where)
    assert made(runs[3]) == 0  # three at once
    told = hvd_adam(cluster, where, "study", "status", folder).stdout
    assert re.search(rf"job {array}_1 running on n\d: workers-2/seed-2; now workers-2/seed-2, step \d+ of 40", told), (
        told
    )
    assert f"job {array}_3 queued (PENDING: JobArrayTaskLimit): workers-4/seed-2" in told
    assert cluster.run("scancel", f"{array}_3").returncode == 0
    assert cluster.run("scontrol", "requeue", f"{array}_0").returncode == 0
    assert cluster.run("scancel", "--full", "--signal=KILL", f"{array}_1").returncode == 0
    assert cluster.run("scancel", "--batch", "--signal=USR1", f"{array}_2").returncode == 0
    wait_for(lambda: len([name for name in queued(cluster, "disturbed") if name.startswith(f"{array}_")]) == 2, where)
    wait_for(lambda: "PENDING" in cluster.run("squeue", "--array", "-h", "-j", array, "-o", "%T").stdout, where)
    assert " requeued (PENDING" in hvd_adam(cluster, where, "study", "status", folder).stdout
    hold.unlink()
    wait_for(lambda: not queued(cluster, "disturbed"), where)
    assert sorted(steps(folder)) == [runs[0], runs[2]]
    once_more = hvd_adam(cluster, where, *words)
    assert (
        once_more.stdout == "0 runs to submit; 2 done; 1 failed (--resubmit failed); 1 missing (--resubmit missing)\n"
    )
    last = hvd_adam(cluster, where, *words, "--resubmit", "failed", "--resubmit", "missing")
    assert last.returncode == 0 and last.stdout.startswith("2 runs to submit; 2 done\n"), last.stderr
    wait_for(lambda: not queued(cluster, "disturbed"), where)
    here(where, "study", "run", "disturbed.yaml", "--folder", "runs/local")
    assert len(steps(folder)) == 4 and steps(folder) == steps(where / "runs" / "local")
    began = starts(folder)
    assert began[runs[0]] == [0, 10] and began[runs[1]] == [0, 10] and began[runs[3]] == [0]
    assert began[runs[2]][0] == 0 and began[runs[2]][1] >= 12 and len(began[runs[2]]) == 2


def test_cancel_ends_all_jobs_of_a_study_and_only_these(cluster: Cluster, where: Path) -> None:
    other = cluster.run("sbatch", "--hold", "--job-name=disturbed-other", "--wrap=true", where=where).stdout.split()[-1]
    words = ("study", "submit", "disturbed.yaml", "--no-timing", "--pack", "0")
    done = hvd_adam(cluster, where, *words, "--", "--hold")
    assert done.returncode == 0, done.stderr
    assert len(queued(cluster, "disturbed")) == 6
    ended = hvd_adam(cluster, where, "study", "cancel", "runs/disturbed")
    assert ended.returncode == 0 and ended.stdout.startswith("cancelled "), ended.stderr
    wait_for(lambda: queued(cluster, "disturbed") == [other], where)
    assert hvd_adam(cluster, where, "study", "cancel", "runs/disturbed").stdout.startswith("no job of ")
    assert "4 missing (--resubmit missing)" in hvd_adam(cluster, where, *words).stdout
