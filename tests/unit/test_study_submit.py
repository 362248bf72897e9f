"""Giving a study to Slurm, with stubs for its programs: what is in the queue is never given twice, nor half."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hvd_adam.cli import main
from hvd_adam.study.config import from_plain
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Run, plan
from hvd_adam.study.slurm import fresh
from tests.made_study import SMALL

STUDY = {**SMALL, "ranks": 2}


class Login:
    """A login node: `sbatch` numbers its calls from 100 on, and refuses those that hold the word that `refuse` says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        (folder / "bin").mkdir()
        (folder / "small.yaml").write_text(json.dumps(STUDY))
        monkeypatch.chdir(folder)
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
        self.stub("sbatch", f"""cd "{folder}"; n=$((100 + $(wc -l <calls))); echo "$*" >>calls
            case "$*" in *"$(cat refuse)"*) echo "sbatch: error: Batch job submission failed: Invalid account" >&2
            exit 1 ;; esac; echo $n""")  # fmt: skip
        self.stub("squeue", f'cat "{folder}/queue"')
        self.stub("scancel", f'echo "$*" >>"{folder}/cancelled"')
        self.stub("sinfo", "echo 'short 2'; echo 'main* 5'; echo 'wide 40'")
        self.stub("scontrol", "echo 'MaxArraySize            = 1001'")
        for name, text in (("calls", ""), ("queue", ""), ("refuse", "no such words")):
            (folder / name).write_text(text)
        self.place = Folder(folder / "runs" / "small")

    def stub(self, name: str, body: str) -> None:
        (self.folder / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.folder / "bin" / name).chmod(0o755)

    def queue(self, *jobs: tuple[str, str, int]) -> None:
        """Number, state, restarts."""
        lines = [f"{job:40}{state:20}{restarts:<12}{'n1':60}{'None':60}\n" for job, state, restarts in jobs]
        (self.folder / "queue").write_text("".join(lines))

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Exit code, and what was printed."""
        self.monkeypatch.setattr("sys.argv", ["hvd-adam", "study", *words])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *self.capsys.readouterr()

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def runs(self) -> dict[str, Run]:
        return {run.place: run for run in plan(from_plain(json.loads(json.dumps(STUDY)))).runs}

    def finish(self, place: str) -> None:
        path = self.place.path / place
        path.mkdir(parents=True)
        result = {"status": "done", "step": 50, "seconds": {"data": 1.0}, "identity": None}
        (path / "result.json").write_text(json.dumps(result))


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Login:
    return Login(tmp_path, monkeypatch, capsys)


SUBMIT = ("submit", "small.yaml", "--no-timing", "--pack", "0")


def test_what_is_queued_or_done_is_not_submitted_again_and_more_seeds_are(login: Login) -> None:
    code, said, _ = login(*SUBMIT)
    assert (code, len(login.calls())) == (0, 3)
    assert "submitted as 100, 101, 102; hvd-adam study status" in said
    login.queue(("100_0", "RUNNING", 0), ("100_1", "PENDING", 0), ("101_1", "PENDING", 0), ("102", "PENDING", 0))
    login.finish("workers-2/seed-0")
    assert login(*SUBMIT) == (0, "0 runs to submit; 1 done; 3 queued or running\n", "")
    code, said, _ = login(*SUBMIT, "seeds=3")
    first, condition, array, *_ = said.splitlines()
    assert (code, first) == (0, "2 runs to submit; 1 done; 3 queued or running")
    assert condition.startswith("condition: violated, clause 4") and array.startswith(
        "1-rank: 1 run in 1 allocation of 1 node"
    )
    assert " --dependency=afterany:103:104:100:101:102 " in login.calls()[-1]  # the report waits for all


def test_where_no_arrays_are_allowed_a_job_alone_is_known_again(login: Login) -> None:
    """Slurm names it 100, and not 100_0."""
    alone = (*SUBMIT, "--array-size", "1")
    code, _, _ = login(*alone)
    assert (code, len(login.calls())) == (0, 5)  # four runs and the report
    login.queue(*((str(100 + job), "PENDING", 0) for job in range(5)))
    assert login(*alone) == (0, "0 runs to submit; 4 queued or running\n", "")
    assert len(login.calls()) == 5


def test_what_has_ended_without_a_result_is_submitted_again_only_if_asked(login: Login) -> None:
    login(*SUBMIT)
    (login.place.path / "workers-1/seed-0").mkdir(parents=True)  # it had begun
    told = "0 runs to submit; 1 failed (--resubmit failed); 3 missing (--resubmit missing)\n"
    assert login(*SUBMIT)[1] == told and len(login.calls()) == 3
    assert login(*SUBMIT, "--resubmit", "failed")[1].startswith("1 run to submit; 3 missing (--resubmit missing)\n")
    assert len(login.calls()) == 5
    packs = json.loads((login.place.path / "submissions/2/arrays.json").read_text())
    assert [array["packs"] for array in packs] == [[["workers-1/seed-0"]]]


def test_a_run_that_was_given_up_may_be_resubmitted_while_its_allocation_goes_on(login: Login) -> None:
    login("submit", "small.yaml", "--no-timing")
    login.queue(("100_0", "RUNNING", 0), ("100_1", "RUNNING", 0))
    login.place.path.joinpath("submissions/1/1-rank/0").mkdir(parents=True)
    event = {"kind": "failed", "run": "workers-1/seed-0", "code": 1, "last": True, "job": "100_0", "reason": "it broke"}
    login.place.note("submissions/1/1-rank/0/events.jsonl", **event)
    assert "1 failed (--resubmit failed)" in login("submit", "small.yaml", "--no-timing")[1]


def test_where_slurm_refuses_one_call_those_before_it_are_taken_back(login: Login) -> None:
    (login.folder / "refuse").write_text("small-2-ranks")
    code, _, error = login(*SUBMIT)
    assert code == 2
    assert error == (
        "hvd-adam: Slurm does not take the job.\n"
        "  It says: Batch job submission failed: Invalid account; the jobs before it were cancelled.\n"
        "  Your site says which accounts are yours; give one after --, as in -- --account=NAME.\n"
    )
    assert (login.folder / "cancelled").read_text() == "100\n"
    (login.folder / "refuse").write_text("no such words")
    assert login(*SUBMIT)[1].startswith("4 runs to submit\n")


def test_a_dry_run_shows_the_calls_that_are_then_made_and_makes_none(login: Login) -> None:
    shown = login(*SUBMIT, "--dry-run", "--", "--partition=a b")[1]
    assert login.calls() == [] and not (login.place.path / "submissions").exists()
    assert "'--partition=a b'" in shown and "#SBATCH --requeue" in shown
    made = login(*SUBMIT, "--", "--partition=a b")[1]
    for number, name in (("100", "<1-rank>"), ("101", "<2-ranks>")):
        shown = shown.replace(name, number)
    told = [line for line in shown.splitlines() if line.startswith("+ ")]
    assert [line.replace("'--dependency=afterany:100:101'", "--dependency=afterany:100:101") for line in told] == [
        line for line in made.splitlines() if line.startswith("+ ")
    ]


def test_without_slurm_there_is_a_message_and_a_dry_run(login: Login) -> None:
    for name in ("sbatch", "squeue", "scontrol"):
        (login.folder / "bin" / name).unlink()
    if any(os.access(f"{folder}/sbatch", os.X_OK) for folder in ("/usr/bin", "/bin")):
        pytest.skip("this machine has Slurm")
    code, _, error = login(*SUBMIT)
    assert code == 1
    assert error.startswith("hvd-adam: there is no squeue on PATH.\n  A study is submitted to Slurm")
    assert "hvd-adam study run" in error.splitlines()[-1]
    code, shown, _ = login(*SUBMIT, "--dry-run")
    assert code == 0 and shown.count("+ sbatch") == 3


@pytest.mark.parametrize(
    ("words", "partition", "nodes"),
    [((), "main", 5), (("--", "--partition=short"), "short", 2), (("--", "--partition=wide"), "", 0)],
)
def test_more_nodes_than_the_partition_has_are_refused(login: Login, words: tuple, partition: str, nodes: int) -> None:
    code, _, error = login(*SUBMIT, "grid.workers=[1, 8]", "ranks=8", *words)
    if not partition:
        assert code == 0
        return
    assert code == 2 and len(login.calls()) == 0
    assert error.startswith(f"hvd-adam: 8 nodes for 8 ranks.\n  Partition {partition} has {nodes}, so Slurm")


def test_a_study_that_is_queued_cannot_be_submitted_with_another_config(login: Login) -> None:
    login(*SUBMIT)
    login.queue(("100_0", "PENDING", 0))
    code, _, error = login(*SUBMIT, "base.algorithm.lr=0.02")
    assert code == 2 and "1 runs of runs/small are queued or running with another config, workers-1/seed-0" in error
    assert "hvd-adam study cancel runs/small" in error and len(login.calls()) == 3


def test_cancel_ends_this_studys_jobs_alone(login: Login) -> None:
    login(*SUBMIT)
    login.queue(("100_0", "RUNNING", 0), ("77", "RUNNING", 0), ("102", "PENDING", 0))
    assert login("cancel", "runs/small")[1] == "cancelled 100, 102\n"
    assert (login.folder / "cancelled").read_text() == "100 102\n"


def test_jobs_that_could_not_be_cancelled_are_said_to_go_on_and_stay_noted(login: Login) -> None:
    login.stub("scancel", "echo 'scancel: error: Unable to contact slurm controller' >&2; exit 1")
    (login.folder / "refuse").write_text("2-rank")
    code, _, error = login(*SUBMIT)
    assert code == 1 and "jobs 100 are not cancelled" in error and "Unable to contact slurm controller" in error
    login.queue(("100_0", "PENDING", 0), ("100_1", "PENDING", 0))
    (login.folder / "refuse").write_text("no such words")
    assert "2 queued or running" in login("status", "runs/small")[1]
    login(*SUBMIT)
    assert not any("1-rank" in call for call in login.calls()[2:])  # these two runs are queued
    code, _, error = login("cancel", "runs/small")
    assert code == 1 and "scancel 100" in error


def test_a_call_that_submits_nothing_is_a_mistake_of_use(login: Login) -> None:
    login.stub("sbatch", ":")
    code, _, error = login(*SUBMIT, "--", "--test-only")
    assert code == 2 and "sbatch named no job" in error


def test_a_users_filters_of_the_queue_hide_no_job() -> None:
    seen = fresh({"SQUEUE_STATES": "RUNNING", "SINFO_PARTITION": "a", "SBATCH_ACCOUNT": "mine", "PATH": "/bin"})
    assert seen == {"SBATCH_ACCOUNT": "mine", "PATH": "/bin"}


def test_status_tells_queued_running_and_requeued_allocations(login: Login) -> None:
    login(*SUBMIT)
    login.queue(("100_0", "RUNNING", 1), ("100_1", "PENDING", 2), ("101_0", "PENDING", 0))
    home, run = login.place.path / "submissions/1/1-rank/0", login.place.path / "workers-1/seed-0"
    home.mkdir(parents=True)
    run.mkdir(parents=True)
    (home / "now").symlink_to(run)
    steps = [{"kind": "step", "step": n, "loss": 0.5, "seconds": {"data": 0.1, "step": 0.1}} for n in (1, 2)]
    (run / "trace.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps) + '{"kind": "st')
    said = login("status", "runs/small")[1]
    assert (
        "job 100_0 running on n1, queued again 1 times: workers-1/seed-0; now workers-1/seed-0, step 2 of 100 at most, "
        "loss 0.5, at most 20 s left beside evaluations\n" in said
    )
    assert "job 100_1 requeued (PENDING: None, queued again 2 times): workers-1/seed-1\n" in said
    assert "job 101_0 queued (PENDING: None): workers-2/seed-0\n" in said
    assert "on the cluster: 3 queued or running, 0 failed, 1 missing; 0 never submitted\n" in said
