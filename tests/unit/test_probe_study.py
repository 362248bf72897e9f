"""What a probe suggests: a study that brackets the elbow, of the run that was probed; and what it needs for that."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hvd_adam.config import from_plain, to_plain
from hvd_adam.errors import RunError
from hvd_adam.probe.findings import Curvature, Findings, Measured, find
from hvd_adam.probe.grid import study_yaml, suggest
from hvd_adam.probe.wording import describe, number
from hvd_adam.study import config as study_config
from hvd_adam.study.plan import plan


def made_up(scale: float, train_size: int = 0, local_batch: int = 32) -> Findings:
    """Findings of a gradient of length 1 with a chosen noise scale."""
    noise = np.random.default_rng(1).standard_normal((120, 4, 50)) * math.sqrt(scale / 50 / local_batch)
    g = math.sqrt(1 / 50) + noise
    config = {"workers": 4, "local_batch": local_batch, "accumulation": 1, "name": "m", "task": {"name": "toy"}}
    measured = Measured(config, Path("p"), 1, "solo", 120, 50, train_size, 1.0, list(range(1, 121)), [1.0] * 120)
    measured.worker_square, measured.mean_square = list((g**2).sum(2).mean(1)), list((g.mean(1) ** 2).sum(1))
    measured.curvature.append(Curvature(0, None, 1, 1, False, "no second derivative"))
    return find(measured)


def test_a_gradient_on_the_wrong_side_of_zero_leaves_a_target_that_can_be_met() -> None:
    seen = set()
    for seed in range(60):
        g = np.random.default_rng(seed).standard_normal((120, 4, 3))
        config = {"workers": 4, "local_batch": 2, "accumulation": 1, "name": "m", "task": {"name": "toy"}}
        measured = Measured(config, Path("p"), 1, "solo", 120, 3, 0, 1.0, list(range(1, 121)), [1.0] * 120)
        measured.worker_square, measured.mean_square = list((g**2).sum(2).mean(1)), list((g.mean(1) ** 2).sum(1))
        found = find(measured)
        seen.add(found.late.noise.square.value > 0)
        if found.late.noise.square.value < 0:
            assert f"at most {number(found.late.noise.square.high)}\n" in describe(found)
            assert found.to_plain()["late"]["square"]["value"] < 0  # as it came
        assert 0 < found.eps < 3
        assert "at_most: 0.0\n" not in study_yaml(found)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("scale", "train_size", "local", "why"),
    [
        (1000.0, 0, 16, ""),  # 0.3 x 1000 / 8, down to a power of two or two for the interval
        (30.0, 0, 1, ""),  # an elbow near one sample: smaller local batches
        (1000.0, 20_000, 16, "a tenth of the 20,000"),
        (1e5, 0, 16, "the elbow's upper end is open"),
    ],
)
def test_the_suggested_grid_brackets_the_elbow_or_says_why_not(
    scale: float, train_size: int, local: int, why: str
) -> None:
    found = made_up(scale, train_size)
    grid = suggest(found)
    least, most = grid.local_batch, grid.local_batch * grid.workers[-1]
    assert why in grid.why and bool(why) == bool(grid.why)
    assert least <= max(1, found.elbow.low) and grid.local_batch == local
    assert most >= found.elbow.high or grid.why
    assert not train_size or most <= train_size / 10


@pytest.mark.parametrize(
    "keys",
    [
        {"wire": "fp16"},
        {"determinism": "exact", "sampling": "replacement", "precision": "float64", "accumulation": 2},
        {"optimizer": {"lr": "0.1/sqrt(t)", "betas": [0.9, 0.99], "v0": "1/(s d)", "eps_in": "v0"}},
        {"algorithm": {"name": "adamw", "lr": 0.1}, "clip_norm": 1.0, "skip_nonfinite": {"stop_after": 2}},
        {"engine": "solo", "threads": 1, "bucket_mb": 1.0, "share_weights": False, "condition": "off"},
        {"stall_limit": None, "check_every": 5, "data": "here", "stage": "there", "epochs": 3},
        {"evaluate": {"every": 5, "train": 10}, "until": [{"measure": "train_loss", "at_most": 1.0}], "seed": 4},
        {"checkpoint": {"every": 5}, "max_seconds": 60.0, "noise_every": 1, "name": "m"},
    ],
    ids=lambda keys: "-".join(keys),
)
def test_the_suggested_study_of_any_run_can_be_planned_and_is_of_that_run(keys: dict[str, Any], tmp_path: Path) -> None:
    found = made_up(30.0, 20_000)
    found.measured.config = to_plain(from_plain({"task": "digits", "workers": 4, **keys}))
    (tmp_path / "study.yaml").write_text(study_yaml(found))
    runs = [from_plain(dict(run.config)) for run in plan(study_config.load(tmp_path / "study.yaml")).runs]
    its_own = {"determinism", "sampling", "epochs", "evaluate", "until", "seed", "checkpoint", "max_seconds"}
    for key in set(keys) - its_own - {"name", "noise_every"}:
        assert {str(to_plain(run)[key]) for run in runs} == {str(found.measured.config[key])}


def test_too_few_steps_name_the_seconds_that_would_do() -> None:
    found = made_up(10.0).measured
    found.steps, found.seconds = found.steps[:18], 60.0
    with pytest.raises(RunError, match="Give --seconds 240"):
        find(found)
