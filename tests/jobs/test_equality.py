"""The same run on other numbers of ranks and other engines: equal bit for bit in exact mode, else to rounding."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

TREE = Path(__file__).resolve().parents[2]
STEPS = 40


def run(folder: Path, ranks: int, engine: str, *overrides: str) -> tuple[dict[str, torch.Tensor], list[Any]]:
    """The trained weights, and all losses, norms and measures of the trace."""
    target = folder / f"{engine}-{ranks}-{'-'.join(overrides).replace('/', '_')}"
    command = [str(TREE / "launchers" / ("local" if engine == "solo" else "mpirun")), "-n", str(ranks), "--"]
    command += [sys.executable, "-m", "hvd_adam", "train", str(TREE / "configs" / "digits-exact.yaml")]
    command += [f"engine={engine}", f"steps={STEPS}", *overrides, "--run", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (target / "trace.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if k != "seconds"} for line in lines if line["kind"] in ("step", "eval")]
    return torch.load(target / "model.pt", weights_only=True), kept


PLAIN = ("task.batch_norm=false", "task.dropout=0", "task.augment=false", "determinism=default")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("equality")


@pytest.mark.parametrize(
    ("workers", "layouts"),
    [
        (8, [(1, "horovod"), (2, "horovod"), (2, "mpi"), (4, "horovod")]),
        (6, [(2, "horovod"), (3, "mpi")]),
    ],
)
def test_exact_mode_is_equal_bit_for_bit(folder: Path, workers: int, layouts: list[tuple[int, str]]) -> None:
    """Batch norm, dropout and augmentation on; losses, norms and evaluation included."""
    truth, truth_trace = run(folder, 1, "solo", f"workers={workers}")
    for ranks, engine in layouts:
        weights, trace = run(folder, ranks, engine, f"workers={workers}")
        assert all(torch.equal(weights[name], truth[name]) for name in truth), (ranks, engine)
        assert trace == truth_trace, (ranks, engine)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_default_mode_is_equal_to_rounding(folder: Path, precision: str, tolerance: float) -> None:
    truth, _ = run(folder, 1, "solo", f"precision={precision}", *PLAIN)
    for ranks, engine in [(2, "horovod"), (2, "mpi"), (4, "horovod")]:
        weights, _ = run(folder, ranks, engine, f"precision={precision}", *PLAIN)
        worst = max(((weights[n] - truth[n]).abs().max() / truth[n].abs().max()).item() for n in truth)
        assert worst <= tolerance, (ranks, engine)
