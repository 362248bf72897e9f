"""Picking learning rates, planning seeds, checking the noise, inverting criteria."""

from itertools import product
from math import inf

import numpy as np
import pytest
from scipy.stats import chi2

from hvd_adam.errors import ConfigError
from hvd_adam.study.goodness import goodness
from hvd_adam.study.horizon import Endpoint, crossing, horizon_linear_up_to, horizon_slope
from hvd_adam.study.linearity import excess, linear_up_to
from hvd_adam.study.passage import Passage
from hvd_adam.study.power import seeds_needed, slope_width, spread
from hvd_adam.study.slope import slope, slopes
from hvd_adam.study.tuning import carried, conditional, moves_with_batch, pick, repeated
from tests.campaign.coverage import passages
from tests.campaign.simulator import Kind, studies


def trials(means, spread=0.1, seeds=6, shared=0.0, seed=0):
    rng = np.random.default_rng(seed)
    common = shared * rng.normal(size=seeds)
    return {
        lr: [
            Passage("c", 64, 4, i, t * 0.999, t)
            for i, t in enumerate(1000 * np.exp(mean + common + spread * rng.normal(size=seeds)))
        ]
        for lr, mean in means.items()
    }


def test_the_pick_has_the_fewest_steps_among_those_that_reach():
    tried = trials({0.01: 0.5, 0.1: 0.0, 1.0: -0.5}, seed=1)
    assert pick(tried).lr == 1.0
    tried[1.0][0] = Passage("c", 64, 4, 0, 5, inf, diverged=True)
    found = pick(tried)
    assert found.lr == 0.1 and found.reached == {0.01: 6, 0.1: 6, 1.0: 5} and found.edge == ""
    assert found.steps[0.1].covers(1000)


@pytest.mark.parametrize(
    ("means", "edge"),
    [
        ({0.01: 0.5, 0.1: 0.0}, "lr 0.1 is the largest that was tried: the best may lie outside; add 1"),
        ({0.01: 0.0, 0.1: 0.5}, "lr 0.01 is the smallest that was tried: the best may lie outside; add 0.001"),
        ({0.1: 0.5}, ""),
    ],
)
def test_a_best_on_the_edge_of_its_grid_is_warned_of(means, edge):
    assert pick(trials(means)).edge == edge


def test_where_no_run_reaches_there_is_no_pick():
    nothing = {0.1: [Passage("c", 64, 4, 0, 5, inf)]}
    assert np.isnan(pick(nothing).lr) and np.isnan(repeated(nothing).estimate)
    with pytest.raises(ConfigError, match="no learning rate was tried"):
        pick({})


def test_repeating_the_tuning_finds_no_spread_where_the_best_is_plain_and_some_where_it_is_not():
    assert repeated(trials({0.01: 1.0, 0.1: 0.0, 1.0: 1.0})).estimate == 0
    close = repeated(trials({0.01: 0.05, 0.1: 0.0, 1.0: 0.08}, seeds=3, spread=0.2))
    assert 0.005 < close.estimate < 0.3 and close == repeated(
        trials({0.01: 0.05, 0.1: 0.0, 1.0: 0.08}, seeds=3, spread=0.2)
    )


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_few_tuning_seeds_are_resampled_in_every_way_they_can_be(seeds):
    tried = trials({0.01: 0.05, 0.1: 0.0, 1.0: 0.08}, seeds=seeds, spread=0.2, seed=9)
    logs = np.log([[run.high for run in tried[lr]] for lr in sorted(tried)])
    means = logs.mean(1)
    picked = [means[logs[:, list(drawn)].mean(1).argmin()] for drawn in product(range(seeds), repeat=seeds)]
    wanted = np.sqrt(np.mean((np.array(picked) - min(picked)) ** 2))
    found = repeated(tried)
    assert wanted > 0.01 and found.estimate == pytest.approx(wanted, abs=2e-3)
    assert found.low == found.high == found.estimate and "on all " in found.method


def test_spreads_of_picks_widen_the_slope_in_squares():
    study = passages(next(studies(Kind(), 1, 1)).runs)
    batches = [16 * 2**j for j in range(6)]
    alone = slope(study)
    assert carried(alone, batches, [0] * 6).low == pytest.approx(alone.low)
    wide = carried(alone, batches, [0.1] * 6)
    away = np.log(batches) - np.log(batches).mean()
    extra = 1.959964 * 0.1 / np.sqrt(away @ away)
    assert wide.high - wide.estimate == pytest.approx(np.hypot(alone.high - alone.estimate, extra))
    assert "conditional on the learning rates" in conditional(alone).method


def test_the_best_lr_s_exponent_in_the_batch_is_its_slope():
    assert moves_with_batch({16: 0.1, 64: 0.4}) == pytest.approx(1) and np.isnan(moves_with_batch({16: 0.1}))


@pytest.mark.parametrize(("grid", "censored", "seeds"), [(0.05, 0.0, 3), (0.25, 0.0, 5), (0.05, 0.2, 10)])
def test_the_width_that_is_planned_is_the_width_that_comes_out(grid, censored, seeds):
    kind = Kind(grid=grid, censored=censored, seeds=seeds)
    found = [f.high - f.low for f in slopes([passages(s.runs) for s in studies(kind, 100, 3)]) if not f.open]
    planned = slope_width([16 * 2**j for j in range(6)], seeds, grid=grid, censored=censored)
    assert planned == pytest.approx(np.median(found), rel=0.08)


def test_one_seed_fewer_would_be_too_wide():
    batches = [16, 32, 64, 128, 256, 512]
    for width in (0.3, 0.1, 0.03):
        seeds = seeds_needed(batches, width)
        assert slope_width(batches, seeds) <= width and (seeds == 2 or slope_width(batches, seeds - 1) > width)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: seeds_needed([16, 32], 0), "interval width 0"),
        (lambda: seeds_needed([16, 32], 1e-9), "Not even 10,000 seeds"),
        (lambda: slope_width([16, 32], 1), "1 seed"),
        (lambda: seeds_needed([16], 0.1), "every cell has batch 16"),
    ],
)
def test_widths_that_cannot_be_had_say_why(call, text):
    with pytest.raises(ConfigError, match=text):
        call()


def test_the_spread_and_its_interval_are_those_of_chi_squared():
    rng = np.random.default_rng(1)
    y = 0.2 * rng.normal(size=(4, 5))
    runs = [
        Passage(f"c{j}", 16 + j, 1, i, np.exp(v) * (1 - 1e-5), np.exp(v))
        for j, row in enumerate(y)
        for i, v in enumerate(row)
    ]
    found = spread(runs)
    pooled = np.sqrt(y.var(1, ddof=1).mean())
    assert found.estimate == pytest.approx(pooled, rel=1e-4)
    np.testing.assert_allclose([found.low, found.high], pooled * np.sqrt(16 / chi2.ppf([0.975, 0.025], 16)), rtol=1e-4)


def test_the_noise_is_objected_to_where_it_is_not_as_assumed():
    rng = np.random.default_rng(6)

    def runs(noise):
        return [
            Passage(f"c{j}", 16 * 2**j, 1, i, t * 0.97, t)
            for j in range(6)
            for i, t in enumerate(1000 * np.exp(noise(j)))
        ]

    assert not goodness(runs(lambda j: 0.2 * rng.normal(size=10))).doubtful
    assert goodness(runs(lambda j: 0.2 * rng.exponential(size=10) ** 2)).normal < 0.01
    assert goodness(runs(lambda j: (0.02 if j < 3 else 0.5) * rng.normal(size=10))).equal < 0.01
    coarse = [passages(s.runs) for s in studies(Kind(grid=0.25, censored=0.5, seeds=10), 20, 5)]
    assert sum(goodness(study).normal < 0.05 for study in coarse) <= 3
    one_each = [Passage(f"c{j}", 16 + j, 1, 0, 5, 6) for j in range(4)]
    assert str(goodness(one_each)).startswith("not checked")
    two_each = [Passage(f"c{j}", 16 + j, 1, i, 5 + i, 6 + i) for j in range(4) for i in range(2)]
    assert "Brown-Forsythe needs 3 seeds" in str(goodness(two_each))


def endpoints(root, seeds, rng, horizons=(100, 200, 400, 800), noise=0.1, shared=None):
    """Criterion = (T / root)^(-1/4), so that it is 1 at the root; `shared`: what each seed adds at all horizons."""
    added = np.zeros(seeds) if shared is None else shared
    noises = {t: added + noise * rng.normal(size=seeds) for t in horizons}
    return [Endpoint(t, (t / root) ** -0.25 * np.exp(noises[t][k]), k) for t in horizons for k in range(seeds)]


@pytest.mark.parametrize("shared", [0.0, 0.1])  # runs of one seed draw the same samples, however long they are
@pytest.mark.parametrize("seeds", [3, 8])
def test_the_inverted_criterion_covers_the_root_as_often_as_it_says(shared, seeds):
    rng = np.random.default_rng(0)
    found = [
        crossing(endpoints(300, seeds, rng, noise=0.03, shared=shared * rng.normal(size=seeds)), 1.0).steps
        for _ in range(400)
    ]
    inside = [f for f in found if np.isfinite(f.estimate)]  # others have the horizons as bounds
    assert len(inside) > 380
    assert np.mean([f.covers(300) for f in found]) == pytest.approx(0.95, abs=0.03)
    assert np.median([f.estimate for f in inside]) == pytest.approx(300, rel=0.06)


@pytest.mark.parametrize("shared", [0.0, 0.1])
def test_the_slope_over_inverted_criteria_covers_the_truth_where_batches_share_their_seeds(shared):
    rng, covered = np.random.default_rng(1), 0
    for _ in range(300):
        same = shared * rng.normal(size=5) / 2
        cells = {
            s: crossing(endpoints(4800 / s, 5, rng, noise=0.03, shared=same + shared * rng.normal(size=5) / 2), 1.0)
            for s in (8, 16, 32)
        }
        covered += horizon_slope(cells).covers(-1)
    assert covered / 300 == pytest.approx(0.95, abs=0.04)


def test_where_every_seed_has_every_horizon_the_interval_is_students_t_of_what_each_seed_says_alone():
    """Each seed's own line, inverted: to first order the same, and the noise is small."""
    runs = endpoints(300, 5, np.random.default_rng(2), noise=1e-4)
    found = crossing(runs, 1.0).steps
    alone = [np.log(crossing([run for run in runs if run.seed == k], 1.0).steps.estimate) for k in range(5)]
    half = 2.776445 * np.std(alone, ddof=1) / np.sqrt(5)  # t(4)
    assert np.log(found.estimate) == pytest.approx(np.mean(alone), abs=1e-6)
    assert np.log(found.high / found.estimate) == pytest.approx(half, rel=1e-3)
    assert np.log(found.estimate / found.low) == pytest.approx(half, rel=1e-3)
    assert "t(4) over seeds" in found.method and found.n == 20


def test_one_seed_says_nothing_of_its_error():
    runs = endpoints(300, 1, np.random.default_rng(2), noise=0.01)
    found = crossing(runs, 1.0)
    assert np.isfinite(found.steps.estimate) and (found.steps.low, found.steps.high) == (-inf, inf)
    assert "one seed" in found.steps.method
    beyond = crossing(endpoints(5000, 1, np.random.default_rng(2), noise=0.01), 1.0).steps
    assert (beyond.low, beyond.high) == (-inf, inf) and "not for sure; no bound without more seeds" in beyond.method
    slope = horizon_slope({8: found, 16: found})
    assert slope.estimate == pytest.approx(0) and slope.open and "one seed" in slope.method


@pytest.mark.parametrize(
    ("root", "low", "high", "text"), [(5000, 800, inf, "beyond the longest"), (10, -inf, 100, "before")]
)
def test_a_target_outside_the_horizons_is_bounded_by_them(root, low, high, text):
    found = crossing(endpoints(root, 4, np.random.default_rng(1), noise=0.01), 1.0).steps
    assert (found.low, found.high) == (low, high) and text in found.method


@pytest.mark.parametrize("root", [97, 103, 776, 824])  # beside the shortest and the longest of the horizons
def test_a_horizon_bounds_t_with_its_own_error(root):
    rng = np.random.default_rng(9)
    found = [crossing(endpoints(root, 6, rng, noise=0.02), 1.0).steps for _ in range(400)]
    assert np.mean([not f.covers(root) for f in found]) <= 0.07


def test_the_slope_over_inverted_criteria_is_that_of_their_roots():
    rng = np.random.default_rng(3)
    cells = {s: crossing(endpoints(4800 / s, 8, rng, noise=0.03), 1.0) for s in (8, 16, 32)}
    found = horizon_slope(cells)
    assert found.covers(-1) and found.estimate == pytest.approx(-1, abs=0.1) and not found.open
    cells[64] = crossing(endpoints(20, 8, rng), 1.0)
    assert horizon_slope(cells).open


@pytest.mark.parametrize(
    ("samples", "end", "high"),  # of batch 8, 16, 32, 64: the pooled start is the first two
    [
        ((4800, 4800, 4800, 4800), 64, inf),
        ((4800, 4800, 4800, 7200), 32, 32),
        ((4800, 4800, 6200, 7200), 16, 16),
        ((4800, 4800, 5300, 5300), 64, inf),  # 10 % more than the start is within its 20 %
        ((4800, 4800, 9600, 5000), 64, inf),  # the largest that passes, wherever smaller ones failed
    ],
)
def test_theory_mode_is_linear_up_to_where_samples_exceed_the_start_by_a_fifth(samples, end, high):
    rng = np.random.default_rng(4)
    batches = (8, 16, 32, 64)
    horizons = (50, 100, 200, 400, 800)
    cells = {
        s: crossing(endpoints(total / s, 12, rng, horizons, noise=0.01), 1.0)
        for s, total in zip(batches, samples, strict=True)
    }
    found = horizon_linear_up_to(cells)
    assert (found.estimate, found.low, found.high) == (end, end, high)
    assert found.n == sum(crossed.steps.n for crossed in cells.values())


def test_in_theory_mode_too_few_runs_leave_the_range_open_and_horizons_bound_what_they_do_not_bracket():
    rng = np.random.default_rng(5)
    cells = {s: crossing(endpoints(4800 / s, 3, rng, noise=0.15), 1.0) for s in (8, 16, 32)}
    vague = horizon_linear_up_to(cells)
    assert vague.low < 32 and vague.high == inf
    cells = {s: crossing(endpoints(4800 / s, 12, rng, noise=0.01), 1.0) for s in (8, 16, 32)}
    beyond = crossing(endpoints(5000, 4, rng, noise=0.01), 1.0)  # batch 64 not by step 800: 51,200 samples are too many
    assert horizon_linear_up_to({**cells, 64: beyond}).high == 32
    before = crossing(endpoints(20, 4, rng, noise=0.01), 1.0)  # batch 40 before step 100: fewer than 4,000 samples
    assert horizon_linear_up_to({**cells, 40: before}).low == 40
    assert horizon_linear_up_to({64: beyond, 128: beyond}) is None


def test_the_range_of_theory_mode_is_seldom_wrong_by_more_than_a_step():
    """Samples 4800 x (1, 1, 1.1, 1.5, 2): linear up to batch 32; the interval holds it as often as it says."""
    rng = np.random.default_rng(8)
    found = []
    for _ in range(60):
        cells = {
            s: crossing(endpoints(4800 * more / s, 6, rng, (50, 100, 200, 400, 800)), 1.0)
            for s, more in zip((8, 16, 32, 64, 128), (1, 1, 1.1, 1.5, 2), strict=True)
        }
        found.append(horizon_linear_up_to(cells))
    assert np.mean([one.low <= 32 <= one.high for one in found]) >= 0.9
    assert np.mean([abs(np.log2(one.estimate / 32)) > 1.5 for one in found]) <= 0.05


def test_the_range_of_picked_rates_is_no_surer_than_the_picks():
    """Samples as on a line: with many seeds the range is sure to the end, unless a pick may move a cell by 20 %."""
    kind = Kind(spread=0.05, seeds=10)
    runs = passages(next(studies(kind, 1, 1)).runs)
    names = [f"s{16 * 2**j}" for j in range(6)]
    alone, none = linear_up_to(runs), linear_up_to(runs, picks=dict.fromkeys(names, 0.0))
    assert alone == none and alone.low == 512
    vague = linear_up_to(runs, picks=dict.fromkeys(names, 0.2))
    assert vague.estimate == 512 and vague.low < 512 and "spread of the picks carried" in vague.method
    over = excess(runs, picks=dict.fromkeys(names, 0.1))["s512"]
    plain = excess(runs)["s512"]
    own, more = np.log(plain.high / plain.estimate), 1.959964 * 0.1 * np.sqrt(1 + 1 / 2)  # two cells are the start
    assert np.log(over.high / over.estimate) == pytest.approx(np.hypot(own, more), rel=1e-6)


@pytest.mark.parametrize(
    ("runs", "target", "text"),
    [
        ([Endpoint(100, 1.0, 0)], 1.0, "one horizon"),
        ([Endpoint(100, 0.0, 0), Endpoint(200, 1.0, 0)], 1.0, "criteria: 0.0"),
        ([Endpoint(100, 2.0, 0), Endpoint(200, -1.0, 0), Endpoint(200, -1.0, 1)], 1.0, "criteria: -1.0"),
        ([Endpoint(100, 2.0, 0), Endpoint(200, 1.0, 0)], -1.0, "target: -1.0"),
    ],
)
def test_criteria_that_cannot_be_inverted_say_why(runs, target, text):
    with pytest.raises(ConfigError, match=text):
        crossing(runs, target)
