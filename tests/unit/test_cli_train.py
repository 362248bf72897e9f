"""`hvd-adam train`, alone: what it writes, what it says, and the exit code of each mistake."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from hvd_adam.cli import main
from hvd_adam.tasks.digits import Digits
from hvd_adam.training.trace import read

MNIST_FILES = [f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
TINY = "task: {name: digits, model: softmax}\nsteps: 6\nevaluate: {every: 3}\n"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hvd-adam", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_run_leaves_all_that_is_needed_to_run_it_again(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "train", config, "--run", "r") == 0
    said = capsys.readouterr().out
    assert "accuracy" in said and "the largest part is" in said and "single run" in said
    lines = read(Path("r/trace.jsonl"))
    assert [line["kind"] for line in lines] == ["start", *["step"] * 3, "eval", *["step"] * 3, "eval", "end"]
    assert lines[0]["schema"] == 1 and lines[0]["hosts"] and lines[0]["versions"]["torch"] == torch.__version__
    assert set(lines[1]) >= {"step", "samples", "seconds", "loss", "grad_norm", "lr", "beta1", "beta2", "skipped"}
    assert set(lines[1]["seconds"]) == {"data", "forward", "backward", "wait", "step"}
    result = json.loads(Path("r/result.json").read_text())
    assert result["status"] == "done" and result["step"] == 6 and result["samples"] == 6 * 64
    assert set(torch.load("r/model.pt", weights_only=True)) == {"1.weight", "1.bias"}
    assert call(monkeypatch, "train", "r/config.yaml", "--run", "again") == 0
    assert [x["loss"] for x in read(Path("again/trace.jsonl")) if x["kind"] == "step"] == [
        x["loss"] for x in lines if x["kind"] == "step"
    ]


def test_each_call_gets_a_folder_of_its_own_and_resume_takes_the_newest(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "train", config, "--resume") == 0  # nothing to resume: it starts
    assert call(monkeypatch, "train", config) == 0
    assert len(list(Path("runs/tiny").iterdir())) == 2
    capsys.readouterr()
    assert call(monkeypatch, "train", config, "--resume") == 0
    assert "finished before" in capsys.readouterr().out
    assert len(list(Path("runs/tiny").iterdir())) == 2


def test_a_start_that_was_killed_while_it_wrote_its_config_leaves_the_folder_to_the_next(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("r").mkdir()
    Path("r/.config.yaml.4711.new").write_text("task: di")
    assert call(monkeypatch, "train", config, "--run", "r") == 0


def test_a_longer_budget_goes_on_from_the_checkpoint(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "train", config, "--run", "r") == 0
    assert call(monkeypatch, "train", config, "steps=9", "--run", "r", "--resume") == 0
    assert call(monkeypatch, "train", config, "steps=9", "--run", "whole") == 0
    whole, resumed = ([x["loss"] for x in read(Path(r) / "trace.jsonl") if x["kind"] == "step"] for r in ("whole", "r"))
    assert whole == resumed and len(whole) == 9


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["train", "{config}", "locla_batch=3"], 2, "Did you mean local_batch?"),
        (["train", "{config}", "task=digitz"], 2, "Did you mean digits?"),
        (["train", "{config}", "task=nowhere.nothing:Task"], 2, "nowhere"),
        (["train", "{config}", "task.modle=mlp"], 2, "modle"),
        (["train", "{config}", "workers=0"], 2, "It must be >= 1"),
        (["train", "{config}", "workers=two"], 2, "a whole number"),
        (["train", "{config}", "threads=3000000000"], 2, "It must be <= 65536"),
        (["train", "{config}", "stall_limit=1e10"], 2, "It must be <= 100000000"),
        (["train", "{config}", "local_batch=0"], 2, "It must be >= 1"),
        (["train", "{config}", "local_batch=-32"], 2, "It must be >= 1"),
        (["train", "{config}", "optimizer.betas=[0.9, 1.0]"], 2, "A constant theta must lie in (0, 1)"),
        (["train", "{config}", "optimizer.betas=[0.9, 0]"], 2, "A constant theta must lie in (0, 1)"),
        (["train", "{config}", "optimizer.betas=[1.0, 0.9]"], 2, "Beta must lie in [0, 1)"),
        (["train", "{config}", "optimizer.betas=[-0.1, 0.9]"], 2, "Beta must lie in [0, 1)"),
        (["train", "{config}", "optimizer.lr=-1"], 2, "A learning rate is finite and >= 0"),
        (["train", "{config}", "optimizer.lr=.inf"], 2, "A learning rate is finite and >= 0"),
        (["train", "{config}", "optimizer.lr=.nan"], 2, "A learning rate is finite and >= 0"),
        (["train", "{config}", "optimizer.lr=1 +"], 2, "at character 4"),
        (["train", "{config}", "optimizer.lr=open(t)"], 2, "'open' is not known"),
        (["train", "{config}", "optimizer.lr=t.real"], 2, "'.' is no part of an expression"),
        (["train", "{config}", "optimizer.lr=__import__('os')"], 2, "'__import__' is not known"),
        (["train", "{config}", "optimizer.betas=[t/4, 0.9]"], 2, "at t = 4"),
        (["train", "{config}", "optimizer.betas=[0.9, 1 - 2/t]"], 2, "at t = 1"),
        (["train", "{config}", "local_batch=2000"], 2, "An epoch has"),
        (["train", "{config}", "task=toy", "epochs=3"], 2, "Say steps instead"),
        (["train", "{config}", "epochs=100", "optimizer.lr=0.1 - 0.01*t"], 2, "at t = 11"),
        (["train", "{config}", "engine=solos"], 2, "Did you mean solo?"),
        (["train", "{config}", "--run", "taken"], 2, "never overwrites another"),
        (["train", "{config}", "--run", "taken", "--resume"], 2, "It holds files, but no run"),
        (["train", "{config}", "--run", "tiny.yaml/x"], 1, "cannot be written"),
        (["train", "{config}", "--run", "/proc/x"], 1, "cannot be written"),
        (["train", "{config}", "task=mnist", "data=none"], 1, "hvd-adam data get mnist"),
        (["train", "{config}", "condition=require"], 3, "not shown to hold"),
        (["train", "{config}", "task=mnist", "data=corrupt"], 1, "has another checksum"),
        (["train", "{config}", "task=mnist", "data=unreadable"], 1, "cannot be read (Is a directory)"),
        (["train", "{config}", "task=folder", "data=tiny.yaml"], 1, "The images are read from there"),
        (["data", "get", "mnist", "--root", "tiny.yaml/x"], 1, "Choose a folder that you may write"),
        (["train", "none.yaml"], 2, "There is no such file"),
        (["trian", "{config}"], 2, "Did you mean train?"),
        (["data", "gte", "mnist"], 2, "Did you mean get?"),
        (["data", "verify", "mnits"], 2, "mnist"),
        (["data", "verify", "mnist", "--root", "none"], 1, "hvd-adam data get mnist"),
        (["train"], 2, "CONFIG"),
    ],
)
def test_each_mistake_has_its_words_and_exit_code_and_no_traceback(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    expected: str,
) -> None:
    for name in MNIST_FILES:  # a file with other bytes; a file that no one, root or not, can read
        Path("corrupt/MNIST/raw").mkdir(parents=True, exist_ok=True)
        Path("corrupt/MNIST/raw", name).write_bytes(b"rot")
        Path("unreadable/MNIST/raw", name).mkdir(parents=True)
    Path("taken").mkdir()
    Path("taken/something").write_text("")
    assert call(monkeypatch, *(word.format(config=config) for word in words)) == code
    found = capsys.readouterr()
    assert expected in found.err
    assert found.err.count("hvd-adam:") == 1
    assert "Traceback" not in found.err + found.out
    assert not Path("runs").exists()  # nothing is left behind


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["train", "{config}", "task=mnist", "data=locked/x"], 1, "cannot be read (Permission denied)"),
        (["train", "{config}", "task=mnist", "data=inner"], 1, "Let this user read the files, or run: hvd-adam data"),
        (["train", "{config}", "task=folder", "data=locked/x"], 1, "The images are read from there"),
        (["train", "locked/c.yaml"], 1, "It cannot be read: Permission denied"),
        (["train", "{config}", "--run", "locked/r"], 1, "It cannot be written: Permission denied"),
        (["data", "verify", "mnist", "--root", "locked"], 1, "cannot be read (Permission denied)"),
        (["data", "verify", "cifar10", "--root", "locked/x"], 1, "cannot be read (Permission denied)"),
        (["data", "get", "mnist", "--root", "locked/x"], 1, "Choose a folder that you may write"),
        (["study", "report", "locked/s"], 1, "It cannot be read: Permission denied"),
        (["predict", "locked/p"], 1, "locked/p: Permission denied"),
        (["diagnose", "locked"], 1, "Permission denied"),
        (["doctor"], 0, "locked/x cannot be written: Permission denied"),
    ],
)
def test_a_folder_that_may_not_be_opened_is_said_with_its_reason(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    permissions_bite: None,
    words: list[str],
    code: int,
    expected: str,
) -> None:
    for folder in ("locked", "inner/MNIST"):
        Path(folder).mkdir(parents=True)
        Path(folder).chmod(0)
    if words == ["doctor"]:
        monkeypatch.setenv("HVD_ADAM_DATA", "locked/x")
    assert call(monkeypatch, *(word.format(config=config) for word in words)) == code
    found = capsys.readouterr()
    said = found.out + found.err
    assert expected in said and "Traceback" not in said
    assert found.err.count("hvd-adam:") == (words != ["doctor"])


OWN_TASK = """
from hvd_adam.tasks.digits import Digits
class Mine(Digits):
    def __init__(self, k=2):
        self.share = 1 / k
        Digits.__init__(self)
    def prepare(self, root):
        Digits.prepare(self, root)
        self.test_size = 0
"""


@pytest.mark.parametrize(
    ("source", "task", "expected"),
    [
        ("import os\nplace = {}['x']", "mine:Mine", "It cannot be imported: KeyError: 'x' ({folder}/mine.py, line 2)"),
        ("import json\njson.loads(3)", "mine:Mine", "not int ({folder}/mine.py, line 2)"),  # and no line of json's
        (OWN_TASK, "{{name: 'mine:Mine', k: 0}}", "with k: 0: ZeroDivisionError: division by zero ({folder}/mine.py, "),
        (OWN_TASK, "mine:Mine", "task: mine:Mine with test_size 0.\n  An evaluation is the mean over test samples"),
    ],
)
def test_what_a_task_of_one_s_own_does_wrong_is_said_with_its_place(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    task: str,
    expected: str,
) -> None:
    Path("mine.py").write_text(source)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.syspath_prepend(str(config.parent))
    assert call(monkeypatch, "train", config, f"task={task.format()}") == 2
    said = capsys.readouterr().err
    assert expected.format(folder=config.parent) in said and "Traceback" not in said
    assert not Path("runs").exists()


def test_another_config_cannot_go_on_in_a_run_s_folder(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "train", config, "--run", "r") == 0
    assert call(monkeypatch, "train", config, "seed=5", "--run", "r", "--resume") == 2
    assert "seed 0 there, 5 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("result.json", "[]"),
        ("result.json", '{"status": "done", "step": "x"}'),
        ("environment.json", "[]"),
        ("environment.json", '{"launches": 3}'),
    ],
)
def test_a_damaged_small_file_of_a_run_is_written_anew(
    config: Path, monkeypatch: pytest.MonkeyPatch, file: str, damage: str
) -> None:
    assert call(monkeypatch, "train", config, "--run", "r") == 0
    Path("r", file).write_text(damage)
    assert call(monkeypatch, "train", config, "steps=7", "--run", "r", "--resume") == 0
    assert json.loads(Path("r/result.json").read_text())["step"] == 7
    assert json.loads(Path("r/environment.json").read_text())["launches"][-1]["resumed_from"] == 6


def test_a_damaged_trace_is_said_and_moved_away_it_begins_anew(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "train", config, "--run", "r") == 0
    Path("r/trace.jsonl").write_text("rot\n")
    capsys.readouterr()
    assert call(monkeypatch, "train", config, "steps=7", "--run", "r", "--resume") == 1
    said = capsys.readouterr().err
    assert "trace r/trace.jsonl: a line of it is damaged" in said and "Traceback" not in said
    Path("r/trace.jsonl").rename("away")
    assert call(monkeypatch, "train", config, "steps=7", "--run", "r", "--resume") == 0
    steps = [line.get("step") for line in read(Path("r/trace.jsonl"))]
    assert steps == [None, 6, 7, 7, 7]  # 6: its checkpoint was written before its evaluation


def test_a_disk_that_is_full_at_the_end_makes_a_failed_run_that_resume_finishes(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = torch.save

    def refuse(content: object, where: object) -> None:
        save(content, where)
        if not isinstance(where, io.BytesIO):  # the weights; a checkpoint is made in memory
            try:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:  # torch's writer keeps it as the context only
                raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 896 vs 790")  # noqa: B904

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", refuse)
        assert call(patch, "train", config, "--run", "r") == 1
    said = capsys.readouterr().err
    assert (
        "r/model.pt.\n  It cannot be written: No space left on device" in said
        and "add --resume" in said
        and "Traceback" not in said
    )
    assert json.loads(Path("r/result.json").read_text())["status"] == "failed"
    assert read(Path("r/trace.jsonl"))[-1]["status"] == "failed"
    assert not list(Path("r").glob(".*.new")) and not Path("r/model.pt").exists()
    assert call(monkeypatch, "train", config, "--run", "r", "--resume") == 0
    assert json.loads(Path("r/result.json").read_text())["status"] == "done" and Path("r/model.pt").exists()


def test_a_folder_that_another_call_has_just_taken_is_left_to_it(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "train", config) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Path, "glob", lambda self, pattern: iter(()))  # as seen before the other call made its own
        assert call(patch, "train", config) == 0
    assert sorted(path.name[-2:] for path in Path("runs/tiny").iterdir()) == ["-1", "-2"]


def test_a_checkpoint_of_a_model_of_another_shape_is_refused(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a change in the code of a task: its name and options, and so the config, are what they were."""
    assert call(monkeypatch, "train", config, "--run", "r") == 0
    monkeypatch.setattr(Digits, "model", lambda self: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 11)))
    capsys.readouterr()
    assert call(monkeypatch, "train", config, "steps=9", "--run", "r", "--resume") == 2
    said = capsys.readouterr().err
    assert "a checkpoint with 1.weight of shape (10, 64)" in said and "(11, 64)" in said and "Traceback" not in said


def test_gradients_that_stay_nan_are_skipped_counted_and_stop_the_run(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["optimizer.lr=1e38", "skip_nonfinite.stop_after=3", "steps=50", "task.model=mlp"]
    assert call(monkeypatch, "train", config, *words, "--run", "r") == 1
    assert "3 steps in a row had a gradient that is not finite" in capsys.readouterr().err
    lines = read(Path("r/trace.jsonl"))
    assert [line["skipped"] for line in lines if line["kind"] == "step"][-3:] == [True, True, True]
    assert lines[-1] == {"kind": "end", "step": lines[-2]["step"], "status": "failed"}
    assert json.loads(Path("r/result.json").read_text())["status"] == "failed"


def test_print_config_shows_every_key_and_runs_nothing(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "train", config, "workers=4", "--print-config") == 0
    said = capsys.readouterr().out
    assert "workers: 4" in said and "clip_norm: null" in said
    assert not Path("runs").exists()


def started(config: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "hvd_adam", "train", str(config), "steps=100000", "--run", "r"]
    job = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    for _ in range(600):
        if Path("r/trace.jsonl").exists() and len(read(Path("r/trace.jsonl"))) > 5:
            return job
        time.sleep(0.1)
    job.kill()
    raise AssertionError(f"it never took a step: {job.communicate()}")


def test_sigusr1_saves_and_exits_75_and_resume_goes_on(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = started(config)
    job.send_signal(signal.SIGUSR1)
    said, complained = job.communicate(timeout=60)
    assert job.returncode == 75, complained
    assert "--resume" in said
    stopped = json.loads(Path("r/result.json").read_text())["step"]
    further = stopped + 4
    assert call(monkeypatch, "train", config, f"steps={further}", "--run", "r", "--resume") == 2  # a shorter budget
    assert call(monkeypatch, "train", config, "steps=100000", "--run", "r", "--resume", "--print-config") == 0


def test_ctrl_c_leaves_a_whole_trace_and_exits_130(config: Path) -> None:
    job = started(config)
    job.send_signal(signal.SIGINT)
    _, complained = job.communicate(timeout=60)
    assert job.returncode == 130
    assert "interrupted" in complained and "from step 0 where there is none" in " ".join(complained.split())
    assert "Traceback" not in complained
    text = Path("r/trace.jsonl").read_text()
    assert text.endswith("\n") and json.loads(text.splitlines()[-1])["status"] == "interrupted"


def test_noise_every_notes_the_workers_own_gradients_and_changes_nothing_else(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "train", config, "noise_every=2", "--run", "noise") == 0
    assert call(monkeypatch, "train", config, "--run", "plain") == 0
    noted, plain = ([x for x in read(Path(f"{run}/trace.jsonl")) if x["kind"] == "step"] for run in ("noise", "plain"))
    assert [line["step"] for line in noted if "worker_square" in line] == [1, 3, 5]
    assert all(x["worker_square"] > x["grad_norm"] ** 2 for x in noted if "worker_square" in x)
    assert [x["loss"] for x in noted] == [x["loss"] for x in plain]
    assert not any("worker_square" in line for line in plain)
    assert call(monkeypatch, "train", config, "noise_every=2", "workers=1", "--run", "alone") == 2
    assert "Set workers to 2 or more" in capsys.readouterr().err
