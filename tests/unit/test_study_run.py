"""Carrying out a study: what is made, what is repeated, what is refused. A stand-in makes the runs, in no time."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hvd_adam.cli import main
from hvd_adam.config import from_plain as run_from_plain
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.study import costs, worker
from hvd_adam.study.config import StudyConfig, from_plain
from hvd_adam.study.costs import Known, UnitCosts
from hvd_adam.study.execute import Ended, run_study
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Plan, Run, plan
from tests.made_study import SMALL

YAML = """
base: {task: {name: digits, model: softmax}}
grid: {workers: [1, 2]}
seeds: 2
targets: [{measure: loss, at_most: 0.5}]
budget: {steps: 100}
"""


class Scripted:
    """Makes runs as `script` says: for each place, how its attempts end, one after the other; "target" by default."""

    def __init__(self, script: dict[str, list[str]] | None = None, steps: Any = lambda run: 50) -> None:
        self.script, self.steps = script or {}, steps
        self.made: list[str] = []

    def carry(self, runs: Sequence[Run], folder: Folder) -> Iterator[Ended]:
        for run in runs:
            self.made.append(run.place)
            todo = self.script.get(run.place, [])
            end = todo.pop(0) if todo else "target"
            if end.startswith("fails"):
                yield Ended(run, failed="it broke\nat the seams", code=int(end.removeprefix("fails") or 1))
                continue
            write(folder.of(run), run, end, self.steps(run))
            yield Ended(run)


def write(path: Path, run: Run, ended_by: str, step: int) -> None:
    """A run directory, as small as collecting allows."""
    path.mkdir(parents=True, exist_ok=True)
    config = run_from_plain(dict(run.config))
    (path / "config.yaml").write_text(config.to_yaml())
    status = "failed" if ended_by == "diverged" else "done"
    result = {"status": status, "ended_by": ended_by, "step": step, "identity": config.identity(), "schema": 1}
    result["ranks"] = run.ranks
    (path / "result.json").write_text(json.dumps({**result, "seconds": {"forward": 0.5 * step}}))
    start = {"kind": "start", "schema": 1, "identity": config.identity()}
    evaluation = {"kind": "eval", "step": step, "loss": 0.4 if ended_by == "target" else 2.0}
    lines = [start, {**evaluation, "step": 0, "loss": 2.0}, evaluation]
    (path / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def go(study: StudyConfig, folder: Folder, executor: Any) -> Plan:
    return run_study(study, folder, executor, lambda *_: None)


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hvd-adam", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "runs" / "small")


def test_a_second_call_repeats_no_finished_run(folder: Folder) -> None:
    study = from_plain(SMALL)
    first = Scripted()
    made = go(study, folder, first)
    assert first.made == [run.place for run in made.runs]
    before = {run.place: (folder.of(run) / "result.json").stat().st_mtime_ns for run in made.runs}
    second = Scripted()
    go(study, folder, second)
    assert second.made == []
    assert before == {run.place: (folder.of(run) / "result.json").stat().st_mtime_ns for run in made.runs}


def test_more_cells_and_seeds_are_the_same_study(folder: Folder) -> None:
    go(from_plain(SMALL), folder, Scripted())
    more = Scripted()
    go(from_plain({**SMALL, "seeds": 3, "grid": {"workers": [1, 2, 4]}}), folder, more)
    assert more.made == ["workers-1/seed-2", "workers-2/seed-2", *(f"workers-4/seed-{k}" for k in range(3))]


def test_a_failed_run_is_retried_as_told_and_recorded_with_its_reason(folder: Folder) -> None:
    script = {"workers-1/seed-0": ["fails", "target"], "workers-2/seed-1": ["fails"] * 9}
    executor = Scripted(script)
    go(from_plain({**SMALL, "retries": 2}), folder, executor)
    assert executor.made.count("workers-1/seed-0") == 2 and executor.made.count("workers-2/seed-1") == 3
    kinds = [event["kind"] for event in folder.events() if event["run"] == "workers-1/seed-0"]
    assert kinds == ["failed", "finished"]
    assert list(folder.failures()) == ["workers-2/seed-1"]
    assert folder.failures()["workers-2/seed-1"]["reason"] == "it broke\nat the seams"
    go(from_plain({**SMALL, "retries": 2}), folder, Scripted())  # a new call tries it again
    assert folder.failures() == {}


def test_a_mistake_in_the_config_is_not_retried(folder: Folder) -> None:
    executor = Scripted({"workers-1/seed-0": ["fails2"]})
    go(from_plain({**SMALL, "retries": 5}), folder, executor)
    assert executor.made.count("workers-1/seed-0") == 1 and "workers-1/seed-0" in folder.failures()


def test_a_diverged_run_is_final_and_never_reached(folder: Folder) -> None:
    from hvd_adam.study.collect import collect

    study = from_plain({**SMALL, "retries": 5})
    executor = Scripted(
        {"workers-1/seed-0": ["diverged"], "workers-1/seed-1": ["steps"], "workers-2/seed-0": ["fails2"]}
    )
    made = go(study, folder, executor)
    assert len(executor.made) == 4
    outcomes = {record.run.place: record.outcome for record in collect(study, made, folder)}
    assert outcomes == {
        "workers-1/seed-0": "diverged",
        "workers-1/seed-1": "censored",
        "workers-2/seed-0": "failed",
        "workers-2/seed-1": "reached",
    }
    again = Scripted()
    go(study, folder, again)
    assert again.made == ["workers-2/seed-0"]


def test_a_second_run_at_the_same_time_is_refused_with_the_holder_named(folder: Folder) -> None:
    folder.make()
    other = Folder(folder.path)
    with folder.locked():
        assert str(os.getpid()) in other.holder()
        with pytest.raises(RunError, match=rf"Another `study run` works on it: process {os.getpid()} on ") as refused:
            go(from_plain(SMALL), other, Scripted())
        assert refused.value.exit_code == 1
    assert other.holder() == ""
    go(from_plain(SMALL), other, Scripted())


def test_the_workers_of_a_killed_study_are_waited_for(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is held, and the process that its file names is no more: workers that inherited it are ending."""
    folder.make()
    gone = os.spawnlp(os.P_WAIT, "true", "true") or 2**22 + 1  # above the largest process id of Linux
    (folder.path / "lock").write_text(json.dumps({"process": gone, "host": os.uname().nodename}))
    with (folder.path / "lock").open() as worker:
        fcntl.flock(worker, fcntl.LOCK_EX)
        monkeypatch.setattr("time.sleep", lambda _: fcntl.flock(worker, fcntl.LOCK_UN))  # ends while it is waited for
        go(from_plain(SMALL), folder, Scripted())


def test_a_changed_study_is_refused_and_the_cells_are_named(folder: Folder) -> None:
    go(from_plain(SMALL), folder, Scripted())
    changed = from_plain({**SMALL, "grid": {"workers": [1, 2, 4]}, "base": {**SMALL["base"], "local_batch": 8}})
    with pytest.raises(ConfigError) as refused:
        go(changed, folder, Scripted())
    assert "4 runs" in refused.value.found and "workers-1, workers-2" in refused.value.found
    assert "local_batch was 32 and is 8" in refused.value.why
    looser = from_plain({**SMALL, "targets": [{"measure": "loss", "at_most": 0.6}]})
    with pytest.raises(ConfigError, match=r"until was .*0\.5.* and is .*0\.6"):
        go(looser, folder, Scripted())
    with pytest.raises(ConfigError, match=r"Another study lies there: small, in practice mode"):
        go(from_plain({**SMALL, "name": "large"}), folder, Scripted())


def test_another_budget_of_seconds_is_refused_once_there_is_a_result(folder: Folder) -> None:
    minute, hour = (from_plain({**SMALL, "budget": {"seconds": seconds}}) for seconds in (60, 3600))
    folder.make()
    folder.keep(hour)
    go(minute, folder, Scripted())
    with pytest.raises(ConfigError, match=r"budget\.seconds was 60(.0)? for runs in .* and is 3600"):
        go(hour, folder, Scripted())
    again = Scripted()
    go(minute, folder, again)
    assert again.made == []


def test_results_are_not_dropped_by_a_change_after_the_fact(folder: Folder) -> None:
    go(from_plain({**SMALL, "grid": {"workers": [1, 2, 4]}}), folder, Scripted())
    for change in ({"seeds": 1}, {"grid": {"workers": [1, 2]}}):
        with pytest.raises(ConfigError, match=r"are no longer in the study"):
            go(from_plain({**SMALL, "grid": {"workers": [1, 2, 4]}, **change}), folder, Scripted())


TUNED = {**SMALL, "lr": {"tune": [0.5, 1, 2], "tuning_seeds": 2}}


def slowest_in_the_middle(run: Run) -> int:
    """Steps to the target by lr: at workers-1 the smallest is best, at workers-2 the one in the middle."""
    lr = run.config["algorithm"]["lr"]
    return {0.005: 20, 0.01: 40, 0.02: 60}[lr] if run.config["workers"] == 1 else {0.005: 30, 0.01: 10, 0.02: 60}[lr]


def test_rates_are_picked_on_tuning_seeds_and_used_on_fresh_ones(folder: Folder) -> None:
    study = from_plain(TUNED)
    executor = Scripted(steps=slowest_in_the_middle)
    made = go(study, folder, executor)
    assert folder.picks() == {"workers-1": 0.5, "workers-2": 1}
    assert len(executor.made) == 2 * 3 * 2 + 2 * 2
    rates = {cell.name: {run.config["algorithm"]["lr"] for run in cell.runs} for cell in made.cells}
    assert rates == {"workers-1": {0.005}, "workers-2": {0.01}}
    assert sum("edge" in w or "that was tried" in w for w in made.warnings) == 1
    again = Scripted()
    assert go(study, folder, again) == made and again.made == []


def test_no_rate_is_picked_while_a_tuning_run_is_missing(folder: Folder) -> None:
    place = "tuning/workers-1_lr-x0.5/seed-1000000"
    made = go(from_plain({**TUNED, "retries": 0}), folder, Scripted({place: ["fails"]}, slowest_in_the_middle))
    assert folder.picks() == {"workers-2": 1}
    assert [len(cell.runs) for cell in made.cells] == [0, 2]
    made = go(from_plain(TUNED), folder, Scripted(steps=slowest_in_the_middle))
    assert [len(cell.runs) for cell in made.cells] == [2, 2]


def test_a_rate_once_picked_stands(folder: Folder) -> None:
    go(from_plain(TUNED), folder, Scripted(steps=slowest_in_the_middle))
    folder.write("picks.json", {"workers-1": 2, **{"workers-2": 1}})
    with pytest.raises(ConfigError, match=r"workers-1.*\n.*algorithm\.lr was 0\.005 and is 0\.02"):
        go(from_plain(TUNED), folder, Scripted(steps=slowest_in_the_middle))


def test_the_cap_counts_every_run_at_its_full_budget(folder: Folder) -> None:
    study = from_plain(SMALL)
    made = plan(study)
    found = costs.costs(study, made, {"workers-1": UnitCosts(0.5), "workers-2": UnitCosts(1.0)})
    assert [cost.run_seconds for cost in found] == [50.0, 100.0]
    hours = 2 * (50 + 100) / 3600 / len(os.sched_getaffinity(0))
    assert sum(cost.node_hours or 0 for cost in found) == pytest.approx(hours)
    costs.refuse_over_cap(costs.known_hours(found), hours * 1.01)
    with pytest.raises(ConfigError, match=r"max_node_hours is"):
        costs.refuse_over_cap(costs.known_hours(found), hours * 0.99)
    limited = from_plain({**SMALL, "budget": {"seconds": 3}})
    assert [cost.run_seconds for cost in costs.costs(limited, plan(limited), {})] == [3, 3]


def test_evaluations_and_what_else_a_run_takes_are_counted(folder: Folder) -> None:
    """Of 100 steps on a grid of factor 1.5: at 0, 1, 2, 3, 5, 8, 12, 18, 27, 41, 62, 93 and 100."""
    study = from_plain({**SMALL, "resolution": 1.5})
    found = costs.costs(study, plan(study), {"workers-1": UnitCosts(0.5, 2.0, 3.0)})
    assert [cost.run_seconds for cost in found] == [3 + 100 * 0.5 + 13 * 2, None]


def test_seconds_a_step_are_those_of_the_runs_that_were_made(folder: Folder) -> None:
    made = go(from_plain(SMALL), folder, Scripted())
    assert costs.recorded(made, folder) == Known({"workers-1": UnitCosts(0.5), "workers-2": UnitCosts(0.5)})
    on_two = plan(from_plain({**SMALL, "ranks": 2}))  # but 1 worker, which can be on one alone
    assert costs.recorded(on_two, folder) == Known({"workers-1": UnitCosts(0.5)})


def test_the_rest_of_a_run_and_the_start_of_an_allocation_are_those_that_jobs_have_noted(folder: Folder) -> None:
    made = go(from_plain(SMALL), folder, Scripted())
    first, other = (cell.runs[0] for cell in made.cells)
    for run, launches, start in ((first, 1, 4.0), (other, 2, 7.0)):
        (folder.of(run) / "environment.json").write_text(json.dumps({"launches": [{}] * launches}))
        result = folder.result(run)
        assert result
        folder.note(kind="finished", run=run.place, seconds=sum(result["seconds"].values()) + 3.0, start=start)
    found = costs.recorded(made, folder)
    assert found.of == {"workers-1": UnitCosts(0.5, 0.0, 3.0), "workers-2": UnitCosts(0.5)}  # the second was resumed
    assert found.start == 5.5


def test_a_study_over_its_cap_makes_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    slow = Known(dict.fromkeys(("workers-1", "workers-2"), UnitCosts(3600.0)))
    monkeypatch.setattr(costs, "timed", lambda made, executor: slow)
    Path("s.yaml").write_text(YAML + "max_node_hours: 10\n")
    for command in ("plan", "run"):
        assert call(monkeypatch, "study", command, "s.yaml") == 2
        assert "max_node_hours is 10" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/**/result.json"))


def test_a_plan_and_a_status_say_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("s.yaml").write_text(YAML)
    assert call(monkeypatch, "study", "plan", "s.yaml", "--no-timing") == 0
    said = capsys.readouterr().out
    assert "4 runs; at most an unknown number of node-hours" in said and "loss <= 0.5" in said
    study = from_plain({**SMALL, "name": "s", "base": {"task": SMALL["base"]["task"]}})
    go(study, Folder(Path("runs/s")), Scripted({"workers-2/seed-1": ["fails2"]}))
    assert call(monkeypatch, "study", "status", "runs/s") == 0
    said = capsys.readouterr().out
    assert "1 of 4 runs left; nobody works on it" in said
    assert "failed: workers-2/seed-1, attempt 1" in said and "at the seams" in said


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(YAML)
    Path("taken").write_text("")
    assert call(monkeypatch, "study", "run", "s.yaml", "--folder", "taken/s") == 1
    said = capsys.readouterr().err
    assert "study folder taken/s" in said and "cannot be written: Not a directory" in said and "--folder" in said
    assert call(monkeypatch, "study", "run", "s.yaml", "--folder", "/proc/s") == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_full_disk_ends_the_study_with_a_message_and_the_next_call_goes_on(folder: Folder) -> None:
    study = from_plain(SMALL)
    folder.make()

    class Full(Scripted):
        def carry(self, runs: Sequence[Run], folder: Folder) -> Iterator[Ended]:
            for number, ended in enumerate(super().carry(runs, folder)):
                if number == 1:
                    (folder.path / "events.jsonl").unlink()
                    (folder.path / "events.jsonl").symlink_to("/dev/full")  # every write: no space left
                yield ended

    with pytest.raises(RunError, match=r"(?s)No space left on device.*Free the disk"):
        go(study, folder, Full())
    (folder.path / "events.jsonl").unlink()
    rest = Scripted()
    go(study, folder, rest)
    assert rest.made == ["workers-2/seed-0", "workers-2/seed-1"]


def test_a_result_counts_though_whoever_made_it_was_killed_before_saying_so(folder: Folder) -> None:
    go(from_plain(SMALL), folder, Scripted())
    folder.note(kind="failed", run="workers-1/seed-0", reason="it broke", code=1)
    assert folder.failures() == {}
    (folder.path / "workers-1/seed-0/result.json").unlink()
    assert list(folder.failures()) == ["workers-1/seed-0"]


def test_a_line_of_events_that_a_full_disk_cut_short_costs_that_line_alone(folder: Folder) -> None:
    folder.make()
    folder.note(kind="finished", run="a")
    with (folder.path / "events.jsonl").open("a") as file:
        file.write('{"time": 12.5, "kind": "fini')
    assert [event["run"] for event in folder.events()] == ["a"]
    folder.note(kind="failed", run="b")
    folder.note(kind="finished", run="c")
    assert [event["run"] for event in folder.events()] == ["a", "b", "c"]


def test_a_workers_answer_is_a_line_that_mpirun_hands_on_whole(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    for filling in ("x", "\u00e4", "\U0001f9ed", "\n", "\x01", "\udc80"):  # up to 6 bytes each; the last is no text
        worker._answer({"ends": 7, "failed": f"ValueError: a fault{filling * 5000}in line 3", "code": 1})
        said = capsysbinary.readouterr().out
        assert len(said) < 4096 and said.count(b"\n") == 1 and said.endswith(b"\n")
        answer = json.loads(said.decode().partition(worker.MARK)[2])
        assert answer["failed"].startswith("ValueError: a fault") and answer["failed"].endswith("in line 3")
        assert answer["ends"] == 7 and answer["code"] == 1
    worker._answer({"ends": 7, "failed": "in short", "code": 1})
    assert json.loads(capsysbinary.readouterr().out.partition(worker.MARK.encode())[2])["failed"] == "in short"


def test_a_folder_without_a_study_has_no_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "study", "status", tmp_path) == 2
    assert "It holds no study" in capsys.readouterr().err
