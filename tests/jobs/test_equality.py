"""The same run on other numbers of ranks and other engines: equal bit for bit in exact mode, else to rounding.

200 steps of a small convnet on digits, global batch 64. HVD_ADAM_CAMPAIGN=1 tries every layout; without it one of each
kind is tried.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

TREE = Path(__file__).resolve().parents[2]
STEPS = 200
CAMPAIGN = bool(os.environ.get("HVD_ADAM_CAMPAIGN"))
PLAIN = ("task.batch_norm=false", "task.dropout=0", "task.augment=false", "determinism=default")
JUMPS = pytest.mark.skipif(  # why is not known: one conv's weights jump, and other seeds' runs by more or not at all
    "avx512f" not in Path("/proc/cpuinfo").read_text(),
    reason="without AVX-512's kernels rounding grows to 2.5e-5 in 40 weights of this run; float64 is compared",
)
TOLERANCES = [pytest.param("float32", 1e-5, marks=JUMPS), ("float64", 1e-12)]

Layout = tuple[int, str]
SOLO: Layout = (1, "solo")
EIGHT: list[Layout] = [(2, "horovod"), (2, "mpi"), (4, "horovod")]
SIX: list[Layout] = [(2, "horovod"), (3, "mpi")]
if CAMPAIGN:
    EIGHT = [(ranks, engine) for engine in ("horovod", "mpi") for ranks in (1, 2, 4)]
    SIX = [(ranks, engine) for engine in ("horovod", "mpi") for ranks in (1, 2, 3)]

EIGHT += [(2, "shared"), (4, "direct")]
SIX += [(3, "shared")]

pytestmark = pytest.mark.skipif(
    "OMPI_COMM_WORLD_SIZE" in os.environ, reason="starts jobs of its own: runs outside of one"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("equality")


@lru_cache(maxsize=4)
def run(folder: Path, layout: Layout, *overrides: str) -> tuple[dict[str, torch.Tensor], list[Any]]:
    """The trained weights, and all losses, norms and measures of the trace."""
    ranks, engine = layout
    target = folder / f"{engine}-{ranks}-{'-'.join(overrides).replace('/', '_')}"
    command = [str(TREE / "launchers" / ("local" if engine == "solo" else "mpirun")), "-n", str(ranks), "--"]
    command += [sys.executable, "-m", "hvd_adam", "train", str(TREE / "configs" / "digits-exact.yaml")]
    joined = "horovod" if engine in ("shared", "direct") else engine
    command += [f"engine={joined}", f"steps={STEPS}", *overrides, "--run", str(target)]
    sums = {} if engine == "solo" else {"HVD_ADAM_SUMS": engine}  # the engine's own, also between ranks of one machine
    environment = {**os.environ, **sums}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (target / "trace.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if k != "seconds"} for line in lines if line["kind"] in ("step", "eval")]
    assert kept[-1]["step"] == STEPS
    return torch.load(target / "model.pt", weights_only=True), kept


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Relative to the largest entry of each tensor."""
    return max(((one[name] - other[name]).abs().max() / other[name].abs().max()).item() for name in other)


@pytest.mark.parametrize(("workers", "layouts"), [(8, EIGHT), (6, SIX)])
def test_exact_mode_is_equal_bit_for_bit(folder: Path, workers: int, layouts: list[Layout]) -> None:
    """Batch norm, dropout and augmentation on; losses, norms and evaluation included."""
    truth, truth_trace = run(folder, SOLO, f"workers={workers}")
    for layout in layouts:
        weights, trace = run(folder, layout, f"workers={workers}")
        assert all(torch.equal(weights[name], truth[name]) for name in truth), layout
        assert trace == truth_trace, layout


@pytest.mark.parametrize(("precision", "tolerance"), TOLERANCES)
def test_default_mode_is_equal_to_rounding(folder: Path, precision: str, tolerance: float) -> None:
    truth, _ = run(folder, SOLO, f"precision={precision}", *PLAIN)
    found = {layout: run(folder, layout, f"precision={precision}", *PLAIN)[0] for layout in EIGHT}
    worst = {layout: largest_difference(weights, truth) for layout, weights in found.items()}
    print(precision, worst)
    assert max(worst.values()) <= tolerance


@pytest.mark.parametrize(("precision", "tolerance"), TOLERANCES)
def test_accumulation_and_one_rank_with_the_whole_batch_are_the_same_run(
    folder: Path, precision: str, tolerance: float
) -> None:
    """2 workers of 32 samples; of 2 x 16 accumulated; and Proposition 22: one, with all 64.

    One thread each: with two, torch's own kernels sum in another order, and Adam makes 2e-5 of it by step 200.
    """
    options = (f"precision={precision}", *PLAIN, "threads=1")
    truth, _ = run(folder, SOLO, "workers=2", "local_batch=32", *options)
    accumulated, _ = run(folder, (2, "horovod"), "workers=2", "local_batch=16", "accumulation=2", *options)
    whole, _ = run(folder, SOLO, "workers=1", "local_batch=64", *options)
    worst = {"accumulated": largest_difference(accumulated, truth), "whole": largest_difference(whole, truth)}
    print(precision, worst)
    assert max(worst.values()) <= tolerance
