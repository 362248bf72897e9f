"""A study through real processes: warm workers, ranks, deaths, kills, and a keyboard that interrupts."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import plan

TREE = Path(__file__).resolve().parents[2]
CAMPAIGN = bool(os.environ.get("HVD_ADAM_CAMPAIGN"))
KILLS = 20 if CAMPAIGN else 3

pytestmark = pytest.mark.skipif(
    "OMPI_COMM_WORLD_SIZE" in os.environ, reason="starts jobs of its own: runs outside of one"
)

STUDY = """
base:
  task: {name: digits, model: mlp, dropout: 0.2, augment: true}
  algorithm: {name: adam, lr: 0.01}
  local_batch: 8
grid: {workers: [2, 4]}
seeds: 2
targets: [{measure: train_loss, at_most: 0.5}]
budget: {steps: 400}
"""


def start(folder: Path, study: str, *words: str, **options: Any) -> subprocess.Popen[str]:
    """`study run` in the folder, which becomes the working directory."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s.yaml").write_text(study)
    command = [sys.executable, "-m", "hvd_adam", "study", "run", "s.yaml", *words]
    path = os.pathsep.join([str(TREE), str(folder)])
    # a shell's background jobs ignore it, and would hand that down
    options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    return subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": path}, **options,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=500)
    assert process.returncode == code, said
    return said


def workers_of(folder: Path) -> list[int]:
    """Processes whose command line names the study's folder: workers, and the mpirun above them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder / "runs" / "s").encode() in words and b"hvd_adam.study.worker" in words:
            found.append(int(process.name))
    return found


def gone(folder: Path, patience: float) -> bool:
    end = time.monotonic() + patience
    while workers_of(folder) and time.monotonic() < end:
        time.sleep(0.1)
    return not workers_of(folder)


def results(folder: Path) -> dict[str, Any]:
    """Of each run: its steps, how it ended, and its last evaluation."""
    place = Folder(folder / "runs" / "s")
    found = {}
    for run in plan(place.study()).runs:
        result = place.result(run)
        assert result is not None, run.place
        found[run.place] = [result[key] for key in ("step", "ended_by", "measures", "reached")]
    return found


def told(path: Path) -> list[dict[str, Any]]:
    """All of a trace but the clock and the facts of the launch."""
    lines = [json.loads(line) for line in (path / "trace.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines[1:]]


def test_a_warm_run_is_the_run_that_hvd_adam_train_makes_of_its_config(tmp_path: Path) -> None:
    """Bit for bit, whichever run of a worker's life it was: one worker made all four."""
    study = STUDY.replace("model: mlp", "model: convnet, batch_norm: true").replace("steps: 400", "steps: 40")
    finish(start(tmp_path, study, "--cores", "1"))
    runs = plan(Folder(tmp_path / "runs" / "s").study()).runs
    for number in (0, 1, 3):
        warm = tmp_path / "runs" / "s" / runs[number].place
        cold = tmp_path / f"cold-{number}"
        command = [sys.executable, "-m", "hvd_adam", "train", str(warm / "config.yaml"), "--run", str(cold)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(TREE)}, timeout=120)
        assert told(warm) == told(cold)
        weights = [torch.load(path / "model.pt", weights_only=True) for path in (warm, cold)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_same_seeds_take_the_same_steps_on_1_2_and_4_ranks(tmp_path: Path) -> None:
    study = STUDY.replace("{workers: [2, 4]}", "{workers: [4], ranks: [1, 2, 4]}")
    finish(start(tmp_path, study))
    found = results(tmp_path)
    for seed in (0, 1):
        one, two, four = (found[f"workers-4_ranks-{ranks}/seed-{seed}"] for ranks in (1, 2, 4))
        assert one == two == four and one[1] == "target"
    for ranks in (1, 2, 4):
        place = tmp_path / "runs" / "s" / f"workers-4_ranks-{ranks}" / "seed-0" / "trace.jsonl"
        assert json.loads(place.read_text().splitlines()[0])["ranks"] == ranks


MORTAL = '''
import os
from pathlib import Path
from hvd_adam.tasks.digits import Digits

class Mortal(Digits):
    """Ends its process once, in the middle of a run: as a fault in somebody's C code would."""
    def loss(self, model, batch):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 20 and not Path("died").exists():
            Path("died").write_text("")
            print("the last words", file=__import__("sys").stderr, flush=True)
            os._exit(13)
        return super().loss(model, batch)

class MortalAlone(Mortal):
    """The same in a run on one rank, once those on two are made."""
    def loss(self, model, batch):
        if len(list(Path("runs/s").glob("workers-2/*/result.json"))) < 4:
            return Digits.loss(self, model, batch)
        return super().loss(model, batch)

class FaultyAlone(Digits):
    """One run on one rank raises."""
    def loss(self, model, batch):
        if len(list(Path("runs/s").glob("workers-2/*/result.json"))) == 4:
            try:
                Path("raised").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                raise ValueError("once, alone")
        return super().loss(model, batch)

class Broken(Digits):
    def loss(self, model, batch):
        raise ValueError("a fault of the user")
'''


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_worker_that_dies_is_replaced_and_its_run_made_again(tmp_path: Path, ranks: int) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)
    study = STUDY.replace("name: digits", "name: 'mortal:Mortal'")
    said = finish(start(tmp_path, study, f"ranks={ranks}", "--cores", str(ranks)))
    events = Folder(tmp_path / "runs" / "s").events()
    failed = [event for event in events if event["kind"] == "failed"]
    assert len(failed) == 1 and failed[0]["reason"].startswith("the worker died: the last words")
    assert sum(event["kind"] == "finished" for event in events) == 4
    assert "the worker died" in said and all(run[1] == "target" for run in results(tmp_path).values())


SOME_ALONE = STUDY.replace("{workers: [2, 4]}", "{workers: [1, 2]}") + "ranks: 2\n"


def test_ranks_that_have_made_runs_together_make_those_on_one_rank_apart(tmp_path: Path) -> None:
    finish(start(tmp_path, SOME_ALONE, "seeds=4", "--cores", "2"))
    place = tmp_path / "runs" / "s"
    assert [log.name for log in (place / "workers").iterdir()] == ["2-0.log"]
    beats = [json.loads(file.read_text()) for file in place.glob("workers-1/*/heartbeats/*.json")]
    assert len(beats) == 4 and len({beat["pid"] for beat in beats}) == 2
    alone, cold = place / "workers-1" / "seed-1", tmp_path / "cold"
    command = [sys.executable, "-m", "hvd_adam", "train", str(alone / "config.yaml"), "--run", str(cold)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(TREE)}, timeout=120)
    assert told(alone) == told(cold)


def test_a_rank_that_dies_apart_fails_what_was_begun_and_a_new_job_makes_the_rest(tmp_path: Path) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)
    study = SOME_ALONE.replace("name: digits", "name: 'mortal:MortalAlone'")
    said = finish(start(tmp_path, study, "seeds=4", "--cores", "2"))
    events = Folder(tmp_path / "runs" / "s").events()
    failed = [event for event in events if event["kind"] == "failed"]
    assert 1 <= len(failed) <= 2 and all(
        "workers-1/" in event["run"] and event["reason"].startswith("the worker died: the last words")
        for event in failed
    )
    assert sum(event["kind"] == "finished" for event in events) == 8 and "the worker died" in said
    assert len(results(tmp_path)) == 8


def test_a_fault_in_a_run_that_a_rank_makes_apart_fails_that_run_alone(tmp_path: Path) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)
    study = SOME_ALONE.replace("name: digits", "name: 'mortal:FaultyAlone'")
    said = finish(start(tmp_path, study, "seeds=4", "retries=0", "--cores", "2"), code=1)
    failures = Folder(tmp_path / "runs" / "s").failures()
    assert len(failures) == 1 and "1 runs failed" in said
    assert all("ValueError: once, alone" in failure["reason"] for failure in failures.values())


def test_where_ranks_at_hand_do_not_fill_the_cores_processes_are_started_for_runs_on_one(tmp_path: Path) -> None:
    finish(start(tmp_path, SOME_ALONE, "seeds=3", "--cores", "3"))
    logs = {log.name for log in (tmp_path / "runs" / "s" / "workers").iterdir()}
    assert logs == {"2-0.log", "1-0.log", "1-1.log", "1-2.log"} and len(results(tmp_path)) == 6


def test_a_run_that_cannot_be_made_is_recorded_and_the_study_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)
    study = STUDY.replace("name: digits", "name: 'mortal:Broken'")
    said = finish(start(tmp_path, study, "retries=0", "seeds=1", "--cores", "1"), code=1)
    assert "2 runs failed" in said and "ValueError: a fault of the user" in said
    assert len(Folder(tmp_path / "runs" / "s").failures()) == 2


def test_a_measure_that_a_users_task_has_not_is_said_once_a_run(tmp_path: Path) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)
    study = STUDY.replace("name: digits", "name: 'mortal:Mortal'")
    said = finish(start(tmp_path, study.replace("train_loss", "acuracy"), "--cores", "1"), code=1)
    assert "4 runs failed" in said and "acuracy" in said
    failures = Folder(tmp_path / "runs" / "s").failures().values()
    assert all("no such measure" in failure["reason"] and failure["attempt"] == 1 for failure in failures)


def test_files_that_cannot_grow_fail_their_runs_and_lose_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk; without it the same command goes on."""

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    said = finish(start(tmp_path, STUDY, "seeds=1", "retries=0", "--cores", "1", preexec_fn=small), code=1)
    assert "File too large" in said or "disk is full" in said, said
    said = finish(start(tmp_path, STUDY, "seeds=1", "retries=0", "--cores", "1"))
    assert all(run[1] == "target" for run in results(tmp_path).values())


def test_a_keyboard_that_interrupts_ends_all_at_once_and_the_study_goes_on_later(tmp_path: Path) -> None:
    process = start(tmp_path, STUDY, "ranks=2")
    while not list(tmp_path.glob("runs/s/**/trace.jsonl")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = finish(process, code=130)
    assert "the same command goes on" in said and workers_of(tmp_path) == []
    finish(start(tmp_path, STUDY, "ranks=2"))
    assert len(results(tmp_path)) == 4


def test_a_second_study_on_the_same_folder_is_refused_while_the_first_works(tmp_path: Path) -> None:
    process = start(tmp_path, STUDY)
    while not list(tmp_path.glob("runs/s/**/trace.jsonl")):
        time.sleep(0.1)
    said = finish(start(tmp_path, STUDY), code=1)
    assert f"Another `study run` works on it: process {process.pid} on " in said
    finish(process)


def test_killed_at_random_moments_a_study_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    study = STUDY.replace("{workers: [2, 4]}", "{workers: [1, 2, 4]}") + "ranks: 2\n"
    began = time.monotonic()
    finish(start(tmp_path / "calm", study))
    long = time.monotonic() - began
    draw = random.Random(20261124)
    folder = tmp_path / "killed"
    seen: dict[str, int] = {}
    for _ in range(KILLS):
        process = start(folder, study)
        try:
            process.wait(draw.uniform(0.0, long))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        place = Folder(folder / "runs" / "s")
        now = {str(p.parent): p.stat().st_mtime_ns for p in place.path.glob("*/*/result.json")}
        assert seen.items() <= now.items()  # what had finished was not made again
        seen = {path: changed for path, changed in now.items() if _done(Path(path))}
    finish(start(folder, study))
    assert gone(folder, 20.0)
    assert results(folder) == results(tmp_path / "calm")
    finished = [event["run"] for event in Folder(folder / "runs" / "s").events() if event["kind"] == "finished"]
    assert len(finished) == len(set(finished))


def _done(path: Path) -> bool:
    return bool(json.loads((path / "result.json").read_text()).get("status") == "done")


def test_the_workers_of_a_killed_study_end_by_themselves(tmp_path: Path) -> None:
    process = start(tmp_path, STUDY, "ranks=2", "budget.steps=100000", "targets=[{measure: loss, at_most: 0}]")
    while not list(tmp_path.glob("runs/s/**/trace.jsonl")):
        assert process.poll() is None
        time.sleep(0.1)
    assert workers_of(tmp_path)
    process.kill()
    process.communicate()
    assert gone(tmp_path, 20.0)
