"""What `study plan` says of precision, against widths that simulated studies have and seeds worked out by hand."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import plan
from hvd_adam.study.precision import precision
from tests.made_study import BASE, hyperbola, make, study_of


def noisy(spread: float):
    return lambda cell, seed: hyperbola(cell, seed, 1e-3, 4e6, spread)  # a straight line


def told(study, folder: Path, wanted: float = 0.2):
    return precision(study, plan(study), Folder(folder), wanted)


def test_before_any_run_the_spread_is_assumed_and_said_to_be(tmp_path: Path) -> None:
    """Five cells a factor 2 apart: sum of squares of log batch about its mean 10 log(2)^2."""
    (found,) = told(study_of(resolution=1.0001), tmp_path)
    by_hand = 2 * t.ppf(0.975, 20) * 0.15 / math.sqrt(5 * 10) / math.log(2)
    assert found.width == pytest.approx(by_hand, rel=1e-3)
    assert found.spread is None and "0.15, assumed" in str(found)
    assert found.needed == next(
        m for m in range(2, 99) if 2 * t.ppf(0.975, 5 * (m - 1)) * 0.15 / math.sqrt(10 * m) / math.log(2) <= 0.2
    )


def test_the_spread_of_runs_that_have_ended_takes_its_place(tmp_path: Path) -> None:
    study = study_of(seeds=6, resolution=1.01)
    folder = make(tmp_path / "s", study, noisy(0.3))
    (found,) = told(study, folder)
    assert found.spread is not None and found.spread.low < 0.3 < found.spread.high and found.spread.n == 30
    assert found.needed and found.at_most and found.at_most > found.needed
    (narrow,) = told(study, folder, wanted=0.1)
    assert narrow.needed == pytest.approx(4 * found.needed, rel=0.25)  # half the width, four times the seeds


def test_the_width_that_is_planned_from_a_pilot_is_the_width_that_the_study_then_has(tmp_path: Path, call) -> None:
    make(tmp_path / "s", study_of(seeds=8, resolution=1.02), noisy(0.2))
    call("study", "report", tmp_path / "s", "--format", "json")
    slope = json.loads((tmp_path / "s/report.json").read_text())["series"][0]["slope"]
    (found,) = told(study_of(seeds=8, resolution=1.02), tmp_path / "s")
    assert found.width == pytest.approx(slope["high"] - slope["low"], rel=0.02)


def test_each_series_has_its_own_spread(tmp_path: Path) -> None:
    study = study_of(grid={"workers": [1, 2, 4], "algorithm.lr": [0.001, 0.01]}, seeds=6)
    folder = make(tmp_path / "s", study, lambda c, k: noisy(0.05 if c.setting["algorithm.lr"] == 0.001 else 0.4)(c, k))
    calm, wild = told(study, folder)
    assert calm.label == "algorithm.lr 0.001" and wild.label == "algorithm.lr 0.01"
    assert calm.spread.high < wild.spread.low and calm.needed < wild.needed


def test_plan_prints_it_for_studies_that_wait_for_their_learning_rate_too(tmp_path: Path, call) -> None:
    (tmp_path / "s.yaml").write_text(study_of(lr={"tune": [0.5, 1, 2]}, seeds=3).to_yaml())
    code, said, _ = call("study", "plan", tmp_path / "s.yaml", "--no-timing", "--width", "0.1", "--folder", tmp_path)
    assert code == 0 and re.search(r"about 0\.\d+ wide with 3 seeds a cell; 0\.1 takes \d+; spread", said)


def test_a_study_of_one_seed_has_no_interval_and_theory_mode_no_spread(tmp_path: Path) -> None:
    (found,) = told(study_of(seeds=1), tmp_path)
    assert found.width is None and str(found).startswith("no interval from one seed a cell; 0.2 takes ")
    theory = study_of(mode="theory", horizons=[100, 200, 400], budget=None, base={**BASE["base"], "workers": 2})
    assert told(theory, tmp_path) == []


def test_a_width_that_no_number_of_seeds_reaches_is_said(tmp_path: Path) -> None:
    (found,) = told(study_of(), tmp_path, wanted=1e-9)
    assert found.needed is None and "1e-09 takes more than 10,000 seeds" in str(found)


@pytest.mark.parametrize("width", ["0", "-1", "nan"])
def test_no_width_is_refused(width: str, tmp_path: Path, call) -> None:
    (tmp_path / "s.yaml").write_text(study_of().to_yaml())
    code, _, err = call("study", "plan", tmp_path / "s.yaml", "--no-timing", "--width", width, "--folder", tmp_path)
    assert code == 2 and "--width" in err and "Ask for --width 0.2" in err


def test_the_spread_of_workers_that_share_a_batch_is_planned_on_workers(tmp_path: Path) -> None:
    (found,) = told(study_of(grid={"workers": [1, 2, 4, 8], "global_batch": [64]}), tmp_path)
    x = np.log([1, 2, 4, 8])
    assert found.width == pytest.approx(
        2 * t.ppf(0.975, 16) * math.sqrt((0.15**2 + math.log(1.1) ** 2 / 12) / 5 / x.var() / 4), rel=1e-6
    )
