"""What a study's sentences and judgements say is what its runs show, at the edges too: few runs, few nodes, no end."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hvd_adam.config import Target
from hvd_adam.errors import ConfigError
from hvd_adam.schedules.expressions import parse
from hvd_adam.study.collect import CENSORED, collect, pick_rates
from hvd_adam.study.costs import timed
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.execute import Ended
from hvd_adam.study.expectation import Expectation, judge, within
from hvd_adam.study.folder import Folder
from hvd_adam.study.linearity import linear_up_to
from hvd_adam.study.passage import Passage
from hvd_adam.study.plan import plan
from hvd_adam.study.seconds import Timing
from hvd_adam.study.step_time import StepTime
from hvd_adam.study.tuning import carried
from hvd_adam.theory.subject import Subject
from tests.made_study import hyperbola, make, study_of


def told(call, folder: Path) -> str:
    code, said, _ = call("study", "report", folder)
    assert code == 0
    return " ".join(said.split())


def line(cell, seed: int, spread: float = 0.05) -> float:
    """Steps that halve as the batch doubles."""
    return 64000 / cell.batch * math.exp(spread * np.random.default_rng([seed, cell.batch]).normal())


@pytest.mark.parametrize(
    ("key", "values", "labels"),
    [
        ("algorithm", [{"name": "adam", "lr": 0.001}, {"name": "adam", "lr": 0.01}], ("lr 0.001", "lr 0.01")),
        ("task", [{"name": "digits", "model": "mlp"}, {"name": "digits", "model": "softmax"}], ("mlp", "softmax")),
        ("algorithm", [{"name": "adam", "lr": 0.001}, {"name": "amsgrad", "lr": 0.001}], ("adam", "amsgrad")),
    ],
)
def test_settings_that_share_a_name_are_series_of_their_own(key, values, labels, tmp_path: Path, call) -> None:
    """The second is linear to the end, the first bends: as one series neither would be seen."""
    grid = {"workers": [1, 2, 4, 8, 16], key: values}

    def steps(cell, seed):
        return hyperbola(cell, seed, critical=50) if cell.setting[key] == values[0] else line(cell, seed)

    said = told(call, make(tmp_path / "s", study_of(grid=grid), steps))
    assert all(label in said for label in labels)
    assert said.count("Over all cells") == 1 and said.count("as far as the study goes: slope -") == 1


def test_a_run_that_ends_within_a_streak_may_have_reached_its_target_where_the_streak_began() -> None:
    target = Target(measure="loss", at_most=0.5, in_a_row=3)
    seen = [(100, {"loss": 1.0}), (110, {"loss": 0.4}), (120, {"loss": 0.4})]
    assert target.first_passage(seen) is None and target.not_met_until(seen) == 100
    assert target.first_passage([*seen, (130, {"loss": 0.4})]) == (100, 110)
    assert target.not_met_until([(10, {"loss": 0.4})]) == 0


@pytest.mark.parametrize(
    ("found", "more"),
    [  # the interval is to leave out the nearer limit, 0.05 away, and reaches 0.15: three times too far
        (Estimate(-0.85, -1.0, -0.7, 0.95, 25, ""), 40),
        (Estimate(-1.15, -1.3, -1.0, 0.95, 25, ""), 40),
        (Estimate(-1.0, -1.2, -0.8, 0.95, 25, ""), 15),
    ],
)
def test_seeds_are_told_by_the_limit_that_is_harder_to_leave_out(found, more) -> None:
    assert within("slope", found, -1.1, -0.9, 5).seeds_more == more


def test_seeds_for_a_share_of_runs_are_those_of_its_own_interval() -> None:
    """36 of 36 bound the share from below at 0.025^(1/36) = 0.903; 35 of 35 at 0.899."""
    runs = [Passage(f"s{s}", s, 1, seed, 90, 100) for s in (8, 16) for seed in range(5)]
    assert 0.025 ** (1 / 36) > 0.9 > 0.025 ** (1 / 35)
    assert {found.seeds_more for found in judge(runs, Expectation(reach=0.9))} == {31}


def test_a_ratio_of_times_from_single_runs_is_no_certainty(tmp_path: Path, call) -> None:
    expect = {"time_ratio": {"cell": "workers-8", "base": "workers-1", "at_most": 0.2}}
    code, said, _ = call("study", "check", make(tmp_path / "s", study_of(seeds=1, expect=expect)))
    assert code == 6 and "not enough evidence" in said


def test_a_bound_on_a_slope_is_moved_by_what_picks_add_and_stays_a_bound() -> None:
    found = carried(Estimate(math.nan, 0.2, math.inf, 0.95, 20, ""), [8, 16, 32], [0.05, 0.05, 0.05])
    weights = np.log([8, 16, 32]) - np.log(16)
    extra = 1.959964 * 0.05 * np.linalg.norm(weights / (weights**2).sum())
    assert math.isnan(found.estimate) and found.high == math.inf
    assert found.low == pytest.approx(0.2 - extra, rel=1e-6)


def test_a_cell_that_met_the_target_at_its_first_look_makes_nothing_sure() -> None:
    runs = [Passage(f"s{s}", s, 1, seed, 6400 / s - 1, 6400 / s) for s in (8, 16, 32, 64) for seed in range(5)]
    runs += [Passage("s128", 128, 1, seed, 0, 1) for seed in range(5)]
    found = linear_up_to(runs)
    assert found.low <= found.estimate <= found.high


def test_two_node_counts_leave_open_whether_more_nodes_cost_latency_or_bandwidth() -> None:
    """A step of 1 ms + 1 ms by the exchange of two nodes: at 8, 1.75 ms of bandwidth or 7 ms of latency."""
    timings = [
        Timing(f"w{b}-{n}", b, n, seed, 0.001 + 0.0001 * b / n + (0.001 if n == 2 else 0), {})
        for n, b in ((1, 1), (2, 2), (2, 4), (2, 8))
        for seed in range(3)
    ]
    model = StepTime(timings)
    found = model(8, 8).seconds
    assert found.low == pytest.approx(0.0011 + 0.00175, rel=1e-3)
    assert found.high == pytest.approx(0.0011 + 0.007, rel=1e-3)
    assert found.low < found.estimate < found.high and "latency from bandwidth" in found.method
    assert model(2, 4).seconds.estimate == pytest.approx(0.0022, rel=1e-3)
    assert "latency from bandwidth" not in StepTime([*timings, *_at_four()])(8, 8).seconds.method


def _at_four() -> list[Timing]:
    return [Timing("w4-4", 4, 4, seed, 0.004, {}) for seed in range(3)]


def test_one_node_count_says_nothing_of_more_nodes(tmp_path: Path, call) -> None:
    """Three ways to run on one rank are no choice of nodes."""
    study = study_of(grid={"workers": [1], "local_batch": [8, 16, 32]}, ranks=1)
    said = told(call, make(tmp_path / "s", study))
    assert "is the fastest" not in said and "In seconds nothing is said of more nodes" in said


def test_cells_too_far_from_what_was_timed_are_named(tmp_path: Path, call) -> None:
    study = study_of(grid={"workers": [1, 2, 4, 8, 16, 32]}, ranks=2)
    said = told(call, make(tmp_path / "s", study, line))
    assert "Nothing is known of the seconds of 16, 32 nodes." in said
    assert "In seconds it pays up to 8 nodes, as far as" not in said


@pytest.mark.parametrize(
    ("spread", "later", "words"),  # `later`: steps beyond batch 8, as a share of those on the line
    [
        (0.15, 0.9, "as far as the study goes; for sure up to batch 16: slope -"),
        (0.02, 0.9, "as far as the study goes: slope -"),
        (0.3, 1.6, "Not shown to be linear beyond 1 worker (batch 8), where the study begins; 95 % interval 8 to 16"),
        (0.02, 3.0, "Not linear beyond 1 worker (batch 8), where the study begins; 95 % interval 8 to 8"),
        (0.5, 0.4, "The critical batch has no upper bound: above 13.4 (n = 9)"),
        (0.15, 0.7, "The critical batch lies beyond this study: above 81.8 (n = 9)"),
    ],
)
def test_what_noise_hides_is_not_stated(spread: float, later: float, words: str, tmp_path: Path, call) -> None:
    def steps(cell, seed):
        return line(cell, seed, spread) * (later if cell.batch > 8 else 1)

    study = study_of(grid={"workers": [1, 2, 4]}, seeds=3)
    assert words in told(call, make(tmp_path / "s", study, steps))


def test_a_run_that_diverged_is_no_lower_bound(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(), lambda cell, seed: math.inf)
    for path in folder.glob("workers-1/seed-*/result.json"):
        path.write_text(path.read_text().replace('"ended_by": "steps"', '"ended_by": "diverged"'))
    said = told(call, folder)
    assert "1 worker (batch 8), more than" not in said and "2 workers (batch 16), more than" in said


def test_of_factors_that_never_reached_the_base_rate_is_kept(tmp_path: Path, call) -> None:
    study = study_of(lr={"tune": [0.1, 1, 10], "tuning_seeds": 2})
    folder = make(tmp_path / "s", study, lambda cell, seed: math.inf if cell.batch == 8 else hyperbola(cell, seed))
    found = pick_rates(study, plan(study), Folder(folder))
    assert next(factor for group, factor in found.items() if group == "workers-1") == 1


def test_a_run_that_ends_within_a_streak_is_censored_at_its_last_look_before(tmp_path: Path) -> None:
    study, target = study_of(), Target(measure="train_loss", at_most=0.3, in_a_row=3)
    folder = make(tmp_path / "s", study)
    record = next(one for one in collect(study, plan(study), Folder(folder)) if one.evaluations)
    seen = tuple((step, {"train_loss": loss}) for step, loss in ((100, 1.0), (110, 0.2), (120, 0.2)))
    found = replace(record, evaluations=seen, outcome=CENSORED).passage(target)
    assert found is not None and (found.low, found.high) == (100, math.inf)


def test_a_config_that_cannot_be_run_is_a_mistake_of_use_when_it_is_timed() -> None:
    class Refusing:
        def carry(self, runs, folder):
            yield Ended(runs[0], "no such model", ConfigError.exit_code)

    with pytest.raises(ConfigError, match="cannot be timed"):
        timed(plan(study_of()), Refusing())


def test_what_rises_from_a_value_that_it_has_reaches_it() -> None:
    """1 - sqrt(t)/t is 0 at t = 1, though algebra alone bounds it by less than that, and openly."""
    subject = Subject(parse("1 - sqrt(t)/t"), parse("0.9"), parse("1 - 1/t"), 100)
    shape = subject.shape(subject.alpha_tree)
    assert shape is not None and shape.rising
    assert (shape.range.low, shape.range.low_open) == (0, False)
