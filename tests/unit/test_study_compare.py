"""Two studies compared, and a study against what was expected of it."""

from math import inf, nan

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from hvd_adam.errors import ConfigError
from hvd_adam.study.compare import compare
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.expectation import EXIT, Expectation, judge, outcome, within
from hvd_adam.study.passage import Passage

SHARED = 0.3 * np.random.default_rng(4).normal(size=(4, 5))  # noise that two studies have in common, by seed
BATCHES = (16, 32, 64, 128)


def study(factor=1.0, own=0.05, seed=0, width=1e-4, steps=lambda s: 64000 / s, cells=BATCHES):
    noise = SHARED + own * np.random.default_rng(seed).normal(size=SHARED.shape)
    factors = np.broadcast_to(factor, len(BATCHES))
    return [
        Passage(f"s{s}", s, s // 16, i, t * (1 - width), t)
        for s, row, f in zip(BATCHES, noise, factors, strict=True)
        if s in cells
        for i, t in enumerate(steps(s) * f * np.exp(row))
    ]


def test_a_ratio_is_that_of_pairs_and_not_of_means():
    found = compare(study(), study(1.2, seed=1))
    assert found.overall.estimate == pytest.approx(1.2, rel=0.05) and found.outcome == "more steps"
    assert found.overall.high / found.overall.low < 1.15  # unpaired, spread 0.3 would make it 1.45
    assert str(found).startswith("B needs more steps: ratio 1.2")


def test_with_one_cell_the_interval_is_that_of_the_paired_t_test():
    a, b = study(cells=(16,)), study(1.1, seed=1, cells=(16,))
    d = np.log([y.high / x.high for x, y in zip(a, b, strict=True)])
    theirs = ttest_1samp(d, 0).confidence_interval(0.95)
    found = compare(a, b).overall
    np.testing.assert_allclose(np.log([found.low, found.high]), [theirs.low, theirs.high], atol=1e-4)


def test_swapping_the_studies_inverts_the_ratio():
    there, back = compare(study(), study(1.2, seed=1)), compare(study(1.2, seed=1), study())
    assert back.overall.estimate == pytest.approx(1 / there.overall.estimate, rel=1e-6)
    assert back.overall.low == pytest.approx(1 / there.overall.high, rel=1e-4)


def test_a_study_does_not_differ_from_itself():
    found = compare(study(width=0.1), study(width=0.1))
    assert found.overall.high / found.overall.low > 1.02  # equal to a look, not to a step
    assert found.outcome == "no difference shown" and found.overall.low < 1 < found.overall.high
    assert str(found).startswith("no difference shown: ratio 1.000")


def test_cells_that_go_either_way_are_said_to():
    found = compare(study(), study(np.array([0.8, 0.8, 1.25, 1.25]), seed=1))
    assert found.outcome == "differs by cell" and found.alike.rejects(0.001)
    assert "more steps in some cells and fewer in others" in str(found)


def test_censored_pairs_bound_the_ratio_and_diverged_ones_are_counted_apart():
    a, b = study(), study(1.2, seed=1)
    late = [*b[:-1], Passage("s128", 128, 8, 4, b[-1].low * 0.9, inf)]
    assert compare(a, late).overall.estimate > compare(a[:-1], b[:-1]).overall.estimate * 0.99
    wild = [Passage(r.cell, r.batch, r.workers, r.seed, 1, inf, diverged=True) if r.batch > 32 else r for r in b]
    found = compare(a, wild)
    assert found.pairs == 10 and found.reach.p == pytest.approx(2 * 0.5**10)
    assert "do not reach the target equally often" in str(found)


def never(cell, runs, diverged=False):
    """The same runs, but those of a cell do not reach."""
    return [
        Passage(r.cell, r.batch, r.workers, r.seed, 2e5, inf, diverged=diverged) if r.cell == cell else r for r in runs
    ]


def test_a_cell_that_b_never_reaches_is_worse_though_the_others_are_as_they_were():
    found = compare(study(), never("s128", study(seed=1)))
    assert found.overall.covers(1.0) and found.worse == found.lost == ("s128",) and found.is_worse
    assert found.outcome == "more steps in some cells"
    assert str(found).startswith("B needs more steps in s128; overall ratio 1.0")
    assert "in s128 A reaches the target and B never does" in str(found)
    back = compare(never("s128", study(seed=1)), study())
    assert back.better == ("s128",) and not back.lost and not back.is_worse and not back.is_unknown


def test_a_cell_in_which_b_always_diverges_is_unknown_where_seeds_are_few_and_worse_where_they_are_many():
    few = compare(study(), never("s128", study(seed=1), diverged=True))
    assert few.outcome == "no difference shown" and few.lost == ("s128",) and few.reach.p == 0.0625
    assert few.is_unknown and not few.is_worse
    many = compare(study(), never("s64", never("s128", study(seed=1), diverged=True), diverged=True))
    assert many.reach.rejects() and many.is_worse and not many.is_unknown
    back = compare(never("s64", never("s128", study(seed=1), diverged=True), diverged=True), study())
    assert back.reach.rejects() and not back.is_worse


def test_a_cell_that_neither_reaches_decides_nothing():
    found = compare(never("s128", study()), never("s128", study(seed=1)))
    assert not (found.worse or found.better or found.lost or found.is_worse or found.is_unknown)


def test_one_cell_with_another_ratio_than_the_rest_is_named():
    found = compare(study(), study(np.array([1.0, 1.0, 1.0, 1.3]), own=0.01, seed=1))
    assert found.alike.rejects(0.01) and found.worse == ("s128",) and found.is_worse


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (study(), [], "no run has a result"),
        (study(cells=(16,)), study(cells=(32,)), "the two studies have no cell in common"),
        (
            study(cells=(16,)),
            [Passage("s16", 16, 1, r.seed + 100, r.low, r.high) for r in study(cells=(16,))],
            "the two studies have no seed of a cell in common",
        ),
    ],
)
def test_studies_with_nothing_in_common_say_so(a, b, text):
    with pytest.raises(ConfigError, match=text):
        compare(a, b)


def test_cells_of_one_study_only_are_named():
    assert compare(study(), study(seed=1, cells=(16, 32))).alone == ("s128", "s64")


def test_one_pair_a_cell_is_not_enough_evidence():
    alone = [run for run in study() if run.seed == 0]
    assert compare(alone, alone).outcome == "not enough evidence"
    nothing = [Passage(r.cell, r.batch, r.workers, r.seed, 10, inf) for r in study()]
    assert compare(nothing, nothing).outcome == "not enough evidence"


def tight(steps):
    noise = 0.05 * np.random.default_rng(8).normal(size=(4, 5))
    return [
        Passage(f"s{s}", s, s // 16, i, t * 0.9999, t)
        for s, row in zip(BATCHES, noise, strict=True)
        for i, t in enumerate(steps(s) * np.exp(row))
    ]


@pytest.mark.parametrize(
    ("steps", "expected", "wanted"),
    [
        (lambda s: 64000 / s, Expectation(slope=(-1.1, -0.9)), "met"),
        (lambda s: 64000 / s**0.5, Expectation(slope=(-1.1, -0.9)), "not met"),
        (lambda s: 64000 / s, Expectation(slope=(-1.01, -0.99)), "not enough evidence"),
        (lambda s: 64000 / s, Expectation(linear_up_to=128), "met"),
        (lambda s: 300 * (1 + 32 / s), Expectation(linear_up_to=128), "not met"),
        (lambda s: 64000 / s * (1.17 if s == 128 else 1), Expectation(linear_up_to=128), "not enough evidence"),
        (lambda s: 64000 / s, Expectation(reach=1.0), "met"),
        (lambda s: 64000 / s, Expectation(reach=0.4), "met"),
        (lambda s: 64000 / s, Expectation(reach=0.9), "not enough evidence"),
        (lambda s: 64000 / s, Expectation(slope=(-1.1, -0.9), linear_up_to=64, reach=1.0), "met"),
    ],
)
def test_expectations_are_met_or_not_or_undecided(steps, expected, wanted):
    found = judge(tight(steps), expected)
    assert outcome(found) == wanted, [str(f) for f in found]
    assert EXIT[outcome(found)] == {"met": 0, "not met": 5, "not enough evidence": 6}[wanted]


def test_where_evidence_is_missing_it_says_how_many_seeds_more():
    found = Estimate(-1.0, -1.2, -0.8, 0.95, 20, "")
    judged = within("slope", found, -1.1, -0.9, 5)
    assert judged.seeds_more == 15  # half the width takes four times the seeds
    assert "about 15 more seeds a cell" in str(judged)
    assert within("slope", Estimate(-0.9, -1.2, -0.8, 0.95, 20, ""), -1.1, -0.9, 5).seeds_more is None
    assert within("slope", Estimate(nan, -inf, -0.8, 0.95, 20, ""), -1.1, -0.9, 5).seeds_more is None
    more = judge(tight(lambda s: 64000 / s), Expectation(linear_up_to=128))[0]
    assert more.seeds_more is None and more.outcome == "met"


def test_a_time_ratio_is_judged_with_both_errors():
    seconds = {"s16": Estimate(100, 90, 111, 0.95, 5, ""), "s128": Estimate(20, 18, 22, 0.95, 5, "")}
    runs = tight(lambda s: 64000 / s)
    wanted = {0.5: "met", 0.1: "not met", 0.21: "not enough evidence"}
    for most, outcome_ in wanted.items():
        assert judge(runs, Expectation(time_ratio=("s128", "s16", most)), seconds)[0].outcome == outcome_
    missing = judge(runs, Expectation(time_ratio=("s9", "s16", 1.0)), seconds)[0]
    assert missing.outcome == "not enough evidence" and "s9 has no time" in missing.found.method
