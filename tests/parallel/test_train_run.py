"""Training runs on whatever number of ranks there is."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hvd_adam import data_sources
from hvd_adam.comm import World
from hvd_adam.comm.solo import SoloWorld
from hvd_adam.config import from_plain
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.optim import divided
from hvd_adam.tasks.digits import Digits
from hvd_adam.training.loop import train
from hvd_adam.training.trace import read

EXACT = {
    "task": {"name": "digits", "batch_norm": True, "dropout": 0.1, "augment": True},
    "optimizer": {"lr": 0.003, "betas": [0.9, "1 - 0.9/(t+1)^0.5"]},
    "workers": 4,
    "local_batch": 8,
    "steps": 12,
    "determinism": "exact",
    "evaluate": {"every": 4},
}
CLOCKS = ("seconds",)


class Asked:
    """A stop request that comes up on one rank, at one step."""

    def __init__(self, rank_asks: bool, after: int) -> None:
        self.asks, self.left = rank_asks, after

    @property
    def flag(self) -> bool:
        self.left -= 1
        return self.asks and self.left < 0


class NanOnOneRank(Digits):
    """A loss that is not finite where `here` says so."""

    here = False

    def loss(self, model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return super().loss(model, batch) * (float("nan") if self.here else 1.0)


class Drifts(Digits):
    """One rank's first weight moves between two steps, where `here` says so: no one averages that."""

    here = False

    def loss(self, model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if self.here:
            next(model.parameters()).data.view(-1)[0] += 1e-6
        return super().loss(model, batch)


class Projects(Digits):
    """Weights are brought back to a box before each pass, on every rank alike."""

    def loss(self, model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        with torch.no_grad():
            torch._foreach_clamp_min_(list(model.parameters()), -0.05)
        return super().loss(model, batch)


@pytest.fixture
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all ranks: rank 0's."""
    mine = str(tmp_path_factory.mktemp("run")) if world.rank == 0 else ""
    return Path(world.allgather_bytes(mine.encode())[0].decode())


def run(world: World, path: Path, plain: dict[str, Any], resume: bool = False, stop: Any = None) -> Any:
    return train(from_plain(plain), str(path), resume, stop=stop, world=world)


def without_clocks(path: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in CLOCKS} for line in read(path / "trace.jsonl")]


def test_digits_reach_96_percent(world: World, folder: Path) -> None:
    plain = {"algorithm": {"name": "adam", "lr": 0.003}, "workers": 4, "local_batch": 16, "steps": 250}
    result = run(world, folder / "r", plain)
    if world.rank == 0:
        assert result.measures["accuracy"] >= 0.96
        assert result.samples == 250 * 64
    else:
        assert result is None


def test_a_run_that_was_stopped_goes_on_bit_for_bit(world: World, folder: Path) -> None:
    run(world, folder / "whole", EXACT)
    last = world.rank == world.size - 1
    first = run(world, folder / "cut", EXACT, stop=Asked(last, after=4))
    if first is not None:
        assert first.stopped and 0 < first.step < EXACT["steps"]
    result = run(world, folder / "cut", EXACT, resume=True)
    if world.rank == 0:
        assert result.status == "done"
        assert without_clocks(folder / "cut") == without_clocks(folder / "whole")
        one, other = (torch.load(folder / name / "model.pt", weights_only=True) for name in ("whole", "cut"))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_evaluation_counts_each_test_sample_once(world: World, folder: Path) -> None:
    """Against a plain loop over the whole test set with the weights that the run has left."""
    for chunk in (7, 100, 1000):  # many, few, and fewer chunks than workers
        plain = {"workers": 4, "local_batch": 16, "steps": 5, "evaluate": {"chunk": chunk}}
        result = run(world, folder / f"chunk-{chunk}", plain)
        if world.rank == 0:
            task = Digits()
            task.prepare(folder)
            model = task.model()
            model.load_state_dict(torch.load(folder / f"chunk-{chunk}" / "model.pt", weights_only=True))
            model.eval()
            with torch.no_grad():
                sums = task.measures(model, task.batch(np.arange(task.test_size), torch.Generator(), train=False))
            assert result.measures["accuracy"] == pytest.approx(float(sums["accuracy"]) / task.test_size, abs=1e-12)
            assert result.measures["loss"] == pytest.approx(float(sums["loss"]) / task.test_size, rel=1e-5)
        world.barrier()


@pytest.mark.parametrize("start", [2e4, 1e6])
def test_a_gradient_too_large_for_the_wire_costs_one_step_and_is_no_divergence(
    world: World, folder: Path, start: float
) -> None:
    """It is finite, and halves hold no more than 65,504 / 1,024 times as much as they are sent."""
    plain = {"task": {"name": "toy", "start": start}, "optimizer": {"lr": start / 100}, "workers": 4, "steps": 30}
    result = run(world, folder / "r", {**plain, "wire": "fp16", "skip_nonfinite": {"stop_after": 1}})
    if world.rank == 0:
        assert (result.status, result.ended_by, result.skipped) == ("done", "steps", 1)
        lines = [line for line in read(folder / "r" / "trace.jsonl") if line["kind"] == "step"]
        assert lines[0]["skipped"] and lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    world.barrier()


@pytest.mark.parametrize("wire", [None, "fp16"])
def test_a_nan_on_one_rank_is_skipped_on_all_and_stops_the_run(world: World, folder: Path, wire: str | None) -> None:
    NanOnOneRank.here = world.rank == world.size - 1
    plain: dict[str, Any] = {"task": f"{__name__}:NanOnOneRank", "workers": 4, "steps": 30, "wire": wire}
    plain["skip_nonfinite"] = {"stop_after": 3}
    with pytest.raises(RunError) as caught:
        run(world, folder / "r", plain)
    assert "3 steps in a row" in str(caught.value)
    world.barrier()
    if world.rank == 0:
        lines = read(folder / "r" / "trace.jsonl")
        assert [line["skipped"] for line in lines if line["kind"] == "step"] == [True] * 3
        assert lines[-1]["status"] == "failed"


def test_ranks_with_different_configs_are_told_apart_before_step_1(world: World, folder: Path) -> None:
    if world.size == 1:
        pytest.skip("takes two ranks")
    plain = {"workers": 4, "local_batch": 16 if world.rank == world.size - 1 else 32}
    with pytest.raises(RunError) as caught:
        run(world, folder / "r", plain)
    assert f"local_batch is 16 on rank {world.size - 1}" in str(caught.value)
    assert not (folder / "r").exists()


def test_ranks_with_different_step_counts_are_told_apart_before_step_1(world: World, folder: Path) -> None:
    if world.size == 1:
        pytest.skip("takes two ranks")
    with pytest.raises(RunError) as caught:
        run(world, folder / "r", {"workers": 4, "steps": 10 + (world.rank == 0)})
    assert "the number of steps is" in str(caught.value)


def test_an_existing_folder_is_refused_on_every_rank(world: World, folder: Path) -> None:
    if world.rank == 0:
        (folder / "r").mkdir()
        (folder / "r" / "something").write_text("")
    world.barrier()
    with pytest.raises(ConfigError) as caught:
        run(world, folder / "r", {"workers": 4, "steps": 3})
    assert "never overwrites another" in str(caught.value)


def test_workers_that_do_not_divide_are_refused_on_every_rank(world: World, folder: Path) -> None:
    if world.size == 1:
        pytest.skip("one rank plays any number of workers")
    with pytest.raises(ConfigError) as caught:
        run(world, folder / "r", {"workers": world.size + 1, "steps": 3})
    assert f"workers: {world.size + 1}, started on {world.size} ranks" in str(caught.value)


def test_a_rank_that_has_drifted_is_named_at_the_next_check(world: World, folder: Path) -> None:
    Drifts.here = world.size > 1 and world.rank == world.size - 1
    plain = {"task": f"{__name__}:Drifts", "workers": 4, "steps": 5, "check_every": 2}
    if world.size == 1:
        assert run(world, folder / "r", plain).status == "done"
        return
    with pytest.raises(RunError) as caught:
        run(world, folder / "r", plain)
    when = "before step 2" if divided.SMALLEST == 1 else "after 2 steps"
    assert f"the parameters of rank {world.size - 1} differ from the others' {when}" in str(caught.value)
    world.barrier()
    if world.rank == 0:
        assert read(folder / "r" / "trace.jsonl")[-1] == {"kind": "end", "step": 1, "status": "interrupted"}


def test_a_task_that_writes_to_weights_is_told_how_each_rank_has_its_own(world: World, folder: Path) -> None:
    plain = {**EXACT, "task": f"{__name__}:Projects", "steps": 3}
    if world.size > 1 and divided.SMALLEST == 1:
        with pytest.raises(RunError, match="written to beside the optimizer's step") as caught:
            run(world, folder / "refused", plain)
        assert "Set share_weights to false" in str(caught.value)
    run(world, folder / "own", {**plain, "share_weights": False})
    alone = run(SoloWorld(), folder / f"alone-{world.rank}", plain)
    world.barrier()
    trained, expected = (torch.load(folder / name / "model.pt", weights_only=True) for name in ("own", alone.path.name))
    assert all(torch.equal(trained[name], expected[name]) for name in expected)
    world.barrier()


def test_exact_mode_fixes_what_a_sum_depends_on_and_says_so(world: World, folder: Path) -> None:
    for mode, fixed in (("exact", True), ("default", False)):
        run(world, folder / mode, {**EXACT, "steps": 1, "determinism": mode, "threads": None if fixed else 2})
        if world.rank == 0:
            start = read(folder / mode / "trace.jsonl")[0]
            assert (start["determinism"], start["deterministic"]) == (mode, fixed)
            assert start["threads"] == (1 if fixed else 2)
            assert start["cpu"] == torch.backends.cpu.get_cpu_capability()
        world.barrier()
    torch.set_num_threads(1)


def test_exact_mode_refuses_ranks_that_would_sum_in_another_way(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if world.size == 1:
        pytest.skip("takes two ranks")
    odd = world.rank == world.size - 1
    with pytest.raises(RunError) as caught:
        run(world, folder / "r", {**EXACT, "threads": 2 if odd else 1})
    assert f"threads is 2 on rank {world.size - 1}, and 1 elsewhere" in str(caught.value)
    torch.set_num_threads(1)
    if odd:
        monkeypatch.setattr(torch, "set_deterministic_debug_mode", lambda mode: None)
        torch._C._set_deterministic_algorithms(False, warn_only=False)
    with pytest.raises(RunError) as caught:
        run(world, folder / "r", EXACT)
    assert f"deterministic algorithms is false on rank {world.size - 1}" in str(caught.value)
    assert not (folder / "r").exists()


def test_staged_data_is_copied_once_a_node_and_read_from_there(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small set in MNIST's files stands for the whole one; its originals are gone before the second run."""
    far, near = folder / "far", folder / "near"
    files = small_mnist()
    checks = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    layout = data_sources.Layout("MNIST/raw", checks)
    monkeypatch.setitem(data_sources.DATASETS, "mnist", data_sources.Dataset("mnist", (layout,), ()))
    if world.rank == 0:
        (far / "MNIST/raw").mkdir(parents=True)
        for name, content in files.items():
            (far / "MNIST/raw" / name).write_bytes(content)
    world.barrier()
    plain = {"task": {"name": "mnist", "model": "softmax"}, "workers": 4, "local_batch": 4, "steps": 3}
    plain |= {"data": str(far), "stage": str(near)}
    first = run(world, folder / "first", plain)
    if world.rank == 0:
        assert {path.name for path in (near / "MNIST/raw").iterdir()} == set(files)
        shutil.rmtree(far)
    world.barrier()
    second = run(world, folder / "second", plain)
    if world.rank == 0:
        assert first.measures == second.measures


def small_mnist() -> dict[str, bytes]:
    draws = np.random.default_rng(0)
    found = {}
    for part, count in (("train", 64), ("t10k", 16)):
        pixels = draws.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = draws.integers(0, 10, count, dtype=np.uint8)
        for name, array in ((f"{part}-images-idx3-ubyte", pixels), (f"{part}-labels-idx1-ubyte", labels)):
            lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
            found[name] = bytes((0, 0, 8, array.ndim)) + lengths + array.tobytes()
    return found
