"""Checkpoints written beside training: the copy, the full disk, the kill in the middle, and what resumes from them."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hvd_adam.comm.solo import SoloWorld
from hvd_adam.config import RunConfig, from_plain
from hvd_adam.training import checkpoint, checkpoint_writer
from hvd_adam.training.checkpoint import load_newest
from hvd_adam.training.checkpoint_writer import CheckpointWriter
from hvd_adam.training.loop import train
from hvd_adam.training.trace import Trace, read

WORLD = SoloWorld()


def newest(folder: Path) -> dict[str, Any]:
    found = load_newest(WORLD, folder, RunConfig())
    assert found is not None
    return found


def test_what_training_changes_afterwards_is_not_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_write, write = threading.Event(), checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *a: (may_write.wait(20), write(*a)))
    writer, weights = CheckpointWriter(tmp_path, RunConfig()), torch.ones(3)
    evaluations = [(1, {"loss": 2.0})]
    writer.save(1, {"model": {"w": weights}, "evaluations": evaluations})
    weights.zero_()
    evaluations[0][1]["loss"] = 0.0
    may_write.set()
    writer.finish()
    found = newest(tmp_path)
    assert torch.equal(found["model"]["w"], torch.ones(3)) and found["evaluations"] == [(1, {"loss": 2.0})]


def full_disk(monkeypatch: pytest.MonkeyPatch, code: int = errno.ENOSPC) -> list[int]:
    """From here on nothing reaches the disk for good; the list grows with each trial."""
    trials: list[int] = []

    def fsync(file: int) -> None:
        trials.append(file)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    return trials


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_said_and_the_last_good_one_stays(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], code: int
) -> None:
    writer = CheckpointWriter(tmp_path, RunConfig())
    writer.save(10, {"x": 1})
    writer.finish()
    with pytest.MonkeyPatch.context() as patch:
        full_disk(patch, code)
        writer.save(20, {"x": 2})
        writer.finish()
    said = capfd.readouterr().err
    assert os.strerror(code) in said and "Training goes on; older checkpoints stay." in said
    assert newest(tmp_path)["step"] == 10
    writer.save(30, {"x": 3})  # and the next one is tried as if nothing had been
    writer.finish()
    assert newest(tmp_path)["step"] == 30
    assert not list(tmp_path.glob("*.new"))


def test_the_last_one_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_writer, "PAUSE", 0.0)
    with pytest.MonkeyPatch.context() as patch:
        trials = full_disk(patch)
        assert not CheckpointWriter(tmp_path, RunConfig()).save_now(7, {})
        assert len(trials) == checkpoint_writer.TRIES
    assert CheckpointWriter(tmp_path, RunConfig()).save_now(7, {})


PLAIN: dict[str, Any] = {
    "task": {"name": "digits", "model": "softmax"}, "workers": 1, "local_batch": 8, "steps": 12, "engine": "solo",
    "checkpoint": {"every": 3}, "determinism": "exact",
}  # fmt: skip


def test_a_run_on_a_full_disk_reaches_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_writer, "PAUSE", 0.0)
    monkeypatch.setattr(checkpoint, "save", broken_until(9))
    result = train(from_plain(PLAIN), str(tmp_path / "run"), resume=False)
    assert result is not None and result.status == "done"
    assert newest_step(tmp_path / "run") == 12


def broken_until(step: int) -> Any:
    write = checkpoint.save

    def save(folder: Path, at: int, *rest: Any) -> Path:
        if at < step:
            raise checkpoint.RunError(f"checkpoint {at}", "it cannot be written: no room", "free the folder")
        return write(folder, at, *rest)

    return save


def newest_step(run: Path) -> int:
    found = load_newest(WORLD, run / "checkpoints", from_plain(PLAIN))
    return found["step"] if found else 0


def test_the_stall_is_in_the_line_of_the_next_step(tmp_path: Path) -> None:
    train(from_plain(PLAIN), str(tmp_path / "run"), resume=False)
    lines = [line for line in read(tmp_path / "run" / "trace.jsonl") if line["kind"] == "step"]
    assert [line["step"] for line in lines if "checkpoint" in line["seconds"]] == [4, 7, 10]


def test_the_lines_that_a_full_disk_refuses_come_later_and_in_order(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trace, write = Trace(tmp_path / "trace.jsonl"), os.write
    (tmp_path / "trace.jsonl").write_text("")  # the first line is of no matter here
    trace.write("step", step=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:9]) if file > 2 else write(file, data))
        trace.write("step", step=2)  # cut short
        with pytest.raises(checkpoint.RunError, match="still in memory"):
            trace.sync()

        def refuse(file: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "write", refuse)
        trace.write("step", step=3)
        assert [line["step"] for line in read(tmp_path / "trace.jsonl")] == [1]  # the rest of it can still be read
    trace.write("step", step=4)
    trace.sync()
    trace.close()
    assert [line["step"] for line in read(tmp_path / "trace.jsonl")] == [1, 2, 3, 4]
    assert capfd.readouterr().err.count("Training goes on, and keeps the lines in memory.") == 1


def test_a_kill_at_any_moment_leaves_a_whole_one_and_not_an_older_one_than_was_announced(tmp_path: Path) -> None:
    """20 kills at moments spread over the writes; what a killed process left beside is removed by the next."""
    for trial in range(20):
        folder, announced = tmp_path / str(trial), tmp_path / f"{trial}.txt"
        child = os.fork()
        if child == 0:
            for step in range(1, 10_000):
                checkpoint.save(folder, step, RunConfig(), {"x": torch.full((50_000,), float(step))})
                announced.write_text(f"{step}\n")
        while not announced.exists() or not announced.read_text():
            time.sleep(0.001)
        time.sleep(0.0013 * trial)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = newest(folder)
        assert found["step"] >= int(announced.read_text() or 1)
        assert torch.equal(found["x"], torch.full((50_000,), float(found["step"])))
        CheckpointWriter(folder, RunConfig())
        assert all(path.suffix == ".ckpt" for path in folder.iterdir())


def test_a_damaged_one_is_set_aside_so_that_two_good_ones_are_kept(tmp_path: Path) -> None:
    for step in (10, 20):
        checkpoint.save(tmp_path, step, RunConfig(), {})
    (tmp_path / "step-000000020.ckpt").write_bytes(b"0" * 100)
    assert newest(tmp_path)["step"] == 10
    checkpoint.save(tmp_path, 15, RunConfig(), {})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-000000010.ckpt", "step-000000015.ckpt", "step-000000020.damaged"]


class LateWorld(SoloWorld):
    """A rank that is not the first, and is told what rank 0 has chosen."""

    rank = 1

    def __init__(self, chosen: tuple[str, str]) -> None:
        super().__init__()
        self.answers = [pickle.dumps((chosen, None))]

    def allgather_bytes(self, data: bytes) -> list[bytes]:
        return [self.answers.pop()] if self.answers else [data]


def test_a_rank_whose_view_of_the_folder_is_late_waits_for_the_file_that_rank_0_chose(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "there", 10, RunConfig(), {"x": 1})
    digest = path.read_bytes()[:32].hex()
    mine = tmp_path / "here"
    mine.mkdir()
    checkpoint.save(mine, 5, RunConfig(), {"x": 0})
    threading.Timer(0.3, lambda: path.replace(mine / path.name)).start()
    found = load_newest(LateWorld((path.name, digest)), mine, RunConfig())
    assert found is not None and (found["step"], found["x"]) == (10, 1)
