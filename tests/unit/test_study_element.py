"""The runs of one allocation: what is made, tried again, left alone or given up. A stand-in trains, in no time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hvd_adam.config import from_plain as run_from_plain
from hvd_adam.errors import ConfigError, HvdAdamError, RunError
from hvd_adam.study.config import StudyConfig, from_plain
from hvd_adam.study.element import make
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import plan
from hvd_adam.study.submission import Array
from hvd_adam.study.submitted import Element, Submitted
from hvd_adam.training.run_lock import InUse
from tests.made_study import SMALL

A, B, C, D = "workers-1/seed-0", "workers-1/seed-1", "workers-2/seed-0", "workers-2/seed-1"


def broke() -> HvdAdamError:
    return RunError("it broke", "at the seams", "sew it")


class Allocation:
    """An allocation of the four runs. `script`: how the attempts at a run go, one after the other; well by default."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, study: StudyConfig) -> None:
        self.folder, self.study = Folder(folder), study
        self.script: dict[str, list[Any]] = {}
        self.made: list[str] = []
        self.folder.make()
        self.folder.keep(study)
        submitted = Submitted(self.folder)
        submitted.begin(1, study.to_yaml(), [Array("1-rank", 1, "solo", ((A, B, C, D),), seconds=(None,))])
        self.element = submitted.element(1, "1-rank", 0)
        monkeypatch.setattr("hvd_adam.training.loop.train", self._train)
        monkeypatch.setenv("SLURM_JOB_ID", "71")

    def _train(self, config: Any, run: str, resume: bool, stop: Any, world: Any) -> Any:
        place = str(Path(run).relative_to(self.folder.path))
        assert resume and (self.home / "now").resolve() == Path(run).resolve()
        self.made.append(place)
        todo = self.script.get(place, [])
        end = todo.pop(0) if todo else "done"
        if isinstance(end, BaseException):
            raise end
        if end in ("done", "diverged"):
            Path(run).mkdir(parents=True, exist_ok=True)
            status, ended_by = ("done", "target") if end == "done" else ("failed", "diverged")
            facts = {"status": status, "ended_by": ended_by, "step": 50, "identity": config.identity()}
            (Path(run) / "result.json").write_text(json.dumps(facts))
        if end == "diverged":
            raise RunError("3 steps in a row had a gradient that is not finite", "the run has diverged", "lower the lr")
        return SimpleNamespace(stopped=end == "stopped", seconds={"data": 1.0})

    @property
    def home(self) -> Path:
        return self.element.folder(self.folder)

    def start(self) -> bool:
        return make(self.folder, self.element, "solo", None)

    def kinds(self, place: str) -> list[str]:
        return [event["kind"] for event in self.folder.events() if event["run"] == place]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Allocation:
    return Allocation(tmp_path / "runs", monkeypatch, from_plain(json.loads(json.dumps(SMALL))))


def test_runs_are_made_in_order_and_those_with_a_result_are_left_alone(made: Allocation) -> None:
    assert made.start()
    assert made.made == [A, B, C, D]
    assert made.start()
    assert len(made.made) == 4
    assert {event["job"] for event in made.folder.events()} == {"71"}


def test_what_a_run_took_and_how_long_the_allocation_took_to_begin_is_noted(
    made: Allocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVD_ADAM_BEGAN", str(int(time.time()) - 7))
    assert made.start()
    first = made.folder.events()[0]
    assert first["start"] == pytest.approx(7.5, abs=1.5) and 0 <= first["seconds"] < 5


def test_asked_to_stop_it_leaves_the_rest_to_the_next_start(made: Allocation) -> None:
    made.script = {B: ["stopped"]}
    assert not made.start()
    assert made.made == [A, B]
    assert made.start()
    assert made.made == [A, B, B, C, D]
    assert made.kinds(B) == ["finished"]


def test_a_run_that_diverges_has_a_result_and_has_not_failed(made: Allocation) -> None:
    made.script = {B: ["diverged"]}
    assert made.start()
    assert made.made == [A, B, C, D] and made.kinds(B) == ["finished"] and made.folder.failures() == {}


def test_asked_to_stop_the_job_is_queued_again_though_a_run_has_failed_before(made: Allocation) -> None:
    made.script = {A: [broke(), broke(), broke(), broke()], B: ["stopped"]}
    assert not made.start()
    with pytest.raises(RunError, match="1 of 4 runs have failed"):
        made.start()
    assert made.made == [A, A, B, A, A, B, C, D]


def test_a_run_that_fails_is_tried_as_often_as_the_study_says_and_the_others_are_made(made: Allocation) -> None:
    made.script = {A: [broke(), "done"], B: [broke(), broke()]}
    with pytest.raises(RunError) as failed:
        made.start()
    assert made.made == [A, A, B, B, C, D]
    assert made.kinds(A) == ["failed", "finished"] and made.kinds(B) == ["failed", "failed"]
    assert failed.value.exit_code == 1
    assert failed.value.found == f"1 of 4 runs have failed; the first: {B}: it broke. At the seams."
    assert set(made.folder.failures()) == {B} and made.folder.failures()[B]["last"]


def test_a_config_that_cannot_be_used_is_not_tried_again_and_is_exit_code_2_where_all_are_of_that_kind(
    made: Allocation,
) -> None:
    made.script = {A: [ConfigError("lr: -1", "it must be positive", "say lr: 0.1")]}
    with pytest.raises(ConfigError) as failed:
        made.start()
    assert failed.value.exit_code == 2 and made.made == [A, B, C, D]
    made.script = {A: [ConfigError("lr: -1", "it must be positive", "say lr: 0.1")], B: [broke(), broke()]}
    for place in (B, C, D):
        (made.folder.path / place / "result.json").unlink()
    with pytest.raises(RunError) as mixed:
        made.start()
    assert mixed.value.exit_code == 1 and "2 of 4 runs have failed" in mixed.value.found


@pytest.mark.parametrize(("faults", "tried"), [(0, True), (1, True), (2, False)])
def test_a_run_in_which_the_ranks_died_is_given_up_after_as_many_starts(
    made: Allocation, faults: int, tried: bool
) -> None:
    """The batch script counts the faults in a row that brought no new checkpoint, of the run that `now` points to."""
    made.script = {B: [KeyboardInterrupt()]}  # it dies in the middle of it
    with pytest.raises(KeyboardInterrupt):
        made.start()
    made.made.clear()
    (made.home / "now.tries").write_text(f"{faults}\n/somewhere \n")
    if tried:
        assert made.start()
        assert made.made == [B, C, D]
        return
    with pytest.raises(RunError, match=rf"{B} ended its ranks 2 times without a new checkpoint"):
        made.start()
    assert made.made == [C, D]


def test_a_run_that_another_job_makes_is_left_to_it(made: Allocation) -> None:
    made.script = {A: [InUse("run directory a is in use", "job 7 trains in it", "wait for it")]}
    assert made.start()
    assert made.made == [A, B, C, D] and made.kinds(A) == ["left"] and not made.folder.failures()


def test_a_study_that_was_edited_since_is_refused_run_by_run(made: Allocation) -> None:
    changed = json.loads(json.dumps(SMALL))
    changed["base"]["algorithm"]["lr"] = 0.02
    made.folder.keep(from_plain(changed))
    with pytest.raises(ConfigError) as refused:
        made.start()
    assert made.made == [] and refused.value.exit_code == 2
    reason = made.folder.failures()[A]["reason"]
    assert reason.startswith(f"{A} is another run than when the study was submitted: algorithm")
    assert "0.01" in reason and "0.02" in reason


def test_more_seeds_are_no_other_study(made: Allocation) -> None:
    made.folder.keep(from_plain({**json.loads(json.dumps(SMALL)), "seeds": 5}))
    assert made.start() and made.made == [A, B, C, D]


def test_without_a_picked_learning_rate_a_run_says_what_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = from_plain({**json.loads(json.dumps(SMALL)), "lr": {"tune": [1.0, 2.0]}})
    made = Allocation(tmp_path / "runs", monkeypatch, tuned)
    made.folder.write("picks.json", {"workers-2": 2.0})
    with pytest.raises(ConfigError, match=f"2 of 4 runs have failed; the first: {A} has no learning rate"):
        made.start()
    assert made.made == [C, D]
    picked = {run.place: run for run in plan(tuned, {"workers-2": 2.0}).runs}[C]
    facts = json.loads((made.folder.path / C / "result.json").read_text())
    assert facts["identity"] == run_from_plain(dict(picked.config)).identity()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda there: there.element(1, "1-rank", 4), "element 4 of array 1-rank"),
        (lambda there: there.element(1, "9-ranks", 0), "array 9-ranks of submission 1"),
        (lambda there: there.element(2, "1-rank", 0), "array 1-rank of submission 2"),
    ],
)
def test_an_allocation_that_was_not_submitted_is_refused(
    made: Allocation, ask: Callable[[Submitted], Element], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        ask(Submitted(made.folder))
    assert refused.value.exit_code == 2
