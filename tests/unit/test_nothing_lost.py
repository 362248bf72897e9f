"""What has been trained is kept, whatever comes after: an evaluation that fails, a resume that has nothing to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hvd_adam.cli import main
from hvd_adam.config import from_plain
from hvd_adam.tasks.digits import Digits
from hvd_adam.training.loop import train
from hvd_adam.training.result import Result

TREE = Path(__file__).resolve().parents[2]
PLAIN: dict[str, Any] = {
    "task": {"name": f"{__name__}:Faulty", "model": "softmax"},
    "workers": 2,
    "local_batch": 16,
    "steps": 6,
    "engine": "solo",
    "evaluate": {"at": [3]},
}


class Faulty(Digits):
    """Its evaluations fail on demand, as those of a task of one's own may."""

    fails_at: int | None = None  # the number of the call
    calls = 0

    def measures(self, model: nn.Module, batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        Faulty.calls += 1
        if Faulty.calls == Faulty.fails_at:
            raise ZeroDivisionError("a fault of the task")
        return super().measures(model, batch)


def launch(path: Path, fails_at: int | None = None, resume: bool = True, **changes: Any) -> tuple[Result, list[str]]:
    Faulty.fails_at, Faulty.calls = fails_at, 0
    said: list[str] = []
    result = train(from_plain({**PLAIN, **changes}), str(path), resume, said.append)
    assert result is not None
    return result, said


def told(path: Path) -> tuple[list[Any], dict[str, torch.Tensor]]:
    lines = [json.loads(line) for line in (path / "trace.jsonl").read_text().splitlines()]
    trace = [{k: v for k, v in line.items() if k != "seconds"} for line in lines if line["kind"] in ("step", "eval")]
    return trace, torch.load(path / "model.pt", weights_only=True)


# Two chunks of test data for two workers on one rank: calls 1 and 2 are of step 3, and 3 and 4 of step 6.
@pytest.mark.parametrize(("call", "step", "says_so"), [(1, 3, True), (2, 3, True), (3, 6, False), (4, 6, False)])
def test_a_run_whose_evaluation_fails_goes_on_with_that_evaluation(
    call: int, step: int, says_so: bool, tmp_path: Path
) -> None:
    launch(tmp_path / "whole")
    said: list[str] = []
    with pytest.raises(ZeroDivisionError):
        Faulty.fails_at, Faulty.calls = call, 0
        train(from_plain(PLAIN), str(tmp_path / "run"), False, said.append)
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == [f"step-{step:09d}.ckpt"]
    assert (f"step {step} is saved; --resume goes on with its evaluation" in said) == says_so
    result, said = launch(tmp_path / "run")
    assert f"goes on from the checkpoint of step {step}" in said and result.status == "done"
    (trace, weights), (true_trace, true_weights) = told(tmp_path / "run"), told(tmp_path / "whole")
    assert trace == true_trace and [at for at, _ in result.evaluations] == [3, 6]
    assert all(torch.equal(weights[name], true_weights[name]) for name in true_weights)


def test_an_evaluation_that_fails_again_leaves_what_there_is(tmp_path: Path) -> None:
    for resume in (False, True, True):
        with pytest.raises(ZeroDivisionError):
            launch(tmp_path / "run", fails_at=1, resume=resume)
    assert launch(tmp_path / "run")[0].step == 6


def test_a_run_that_has_ended_stays_whole_also_where_its_checkpoints_were_removed(tmp_path: Path) -> None:
    launch(tmp_path / "run")
    for checkpoint in (tmp_path / "run/checkpoints").iterdir():
        checkpoint.unlink()
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    result, _ = launch(tmp_path / "run")
    assert (result.status, result.step) == ("done before", 6)
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


def test_a_longer_run_goes_on_from_the_end_of_the_shorter_one(tmp_path: Path) -> None:
    launch(tmp_path / "whole", steps=9, evaluate={"at": [3, 6]})
    launch(tmp_path / "run", evaluate={"at": [3, 6]})
    result, said = launch(tmp_path / "run", steps=9, evaluate={"at": [3, 6]})
    assert "goes on from the checkpoint of step 6" in said and [at for at, _ in result.evaluations] == [3, 6, 9]
    assert told(tmp_path / "run")[0] == told(tmp_path / "whole")[0]


def test_a_resume_without_a_checkpoint_says_where_it_starts(tmp_path: Path) -> None:
    starts = f"starts at step 0: there is no checkpoint in {tmp_path / 'run'}"
    assert starts in launch(tmp_path / "run")[1]
    assert not any("starts at step 0" in line for line in launch(tmp_path / "other", resume=False)[1])


# Where the output cannot be written: /dev/full takes nothing, as a full disk does.


def shell(line: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    (tmp_path / "c.yaml").write_text("task: {name: digits, model: softmax}\nsteps: 5\nengine: solo\n")
    command = f"PYTHONPATH='{TREE}' '{sys.executable}' -m hvd_adam {line}"
    return subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)


def test_a_training_whose_log_lies_on_a_full_disk_goes_on(tmp_path: Path) -> None:
    done = shell("train c.yaml --run run >/dev/full", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ("hvd-adam: the output cannot be written: No space left on device.\n  The work goes on.\n")
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "done"


def test_a_training_that_can_say_nothing_at_all_goes_on(tmp_path: Path) -> None:
    assert shell("train c.yaml --run run >/dev/full 2>&1", tmp_path).returncode == 0
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "done"


def test_another_command_whose_output_is_lost_fails_in_one_message(tmp_path: Path) -> None:
    done = shell("check --algorithm adam >/dev/full", tmp_path)
    assert done.returncode == 1 and done.stderr == (
        "hvd-adam: the output: No space left on device.\n  What this command says is written there.\n"
        "  Free the disk, or send it elsewhere.\n"
    )
    assert shell("check --algorithm nonsense 2>/dev/full", tmp_path).returncode == 2  # the code says it still


def test_a_standard_stream_that_is_closed_does_no_harm(tmp_path: Path) -> None:
    done = shell("train c.yaml --run run >&- 2>&-", tmp_path)
    assert done.returncode == 0 and json.loads((tmp_path / "run/result.json").read_text())["status"] == "done"


def test_an_error_of_another_file_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device", "/tmp/other")

    monkeypatch.setattr("hvd_adam.cli.cli", full)
    with pytest.raises(OSError, match="/tmp/other"):
        main()


def test_whoever_reads_the_first_lines_alone_gets_no_traceback(tmp_path: Path) -> None:
    done = shell("check --algorithm adam | true", tmp_path)
    assert done.stderr == ""
