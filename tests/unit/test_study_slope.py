"""Slope, linearity and hyperbola on studies whose answer is known."""

from math import inf, log

import numpy as np
import pytest

from hvd_adam.errors import ConfigError
from hvd_adam.study.hyperbola import hyperbola
from hvd_adam.study.linearity import (
    efficiency,
    excess,
    ideal,
    line_fits,
    linear_up_to,
    linearity,
    percent_fewer,
    slope_is,
)
from hvd_adam.study.passage import Passage, cells
from hvd_adam.study.regions import regions
from hvd_adam.study.slope import slope, stretches, weights

BATCHES = (16, 32, 64, 128, 256, 512)
NOISE = np.random.default_rng(3).normal(size=(6, 5)) * 0.05
NOISE -= NOISE.mean(1, keepdims=True)  # so that the cell means are exact


def study(steps, noise=NOISE, batches=BATCHES, width=1e-4, prefix="s"):
    """Runs that reach at steps(batch) x exp(noise), known to `width`."""
    return [
        Passage(f"{prefix}{b}", b, b // 16, seed, t * (1 - width), t)
        for b, row in zip(batches, noise, strict=False)
        for seed, t in enumerate(steps(b) * np.exp(row))
    ]


def linear(b):
    return 64000 / b


def bent(b):
    return 500 * (1 + 128 / b)


def steep(b):
    return 64000 / b * (0.7 if b > 64 else 1)


def test_the_slope_of_a_curve_is_the_least_squares_slope_over_the_named_cells():
    found = slope(study(bent))
    assert found.estimate == pytest.approx(np.polyfit(np.log(BATCHES), np.log(bent(np.array(BATCHES))), 1)[0], rel=1e-4)
    assert found.n == 30 and found.level == 0.95 and "6 cells" in found.method


def test_a_line_and_free_means_agree_on_a_line():
    free, line = slope(study(linear)), slope(study(linear), shape="line")
    assert free.estimate == pytest.approx(-1, abs=1e-4) and line.estimate == pytest.approx(-1, abs=1e-4)
    assert free.covers(-1) and line.covers(-1)


def test_diverged_runs_do_not_move_the_slope_and_censored_ones_do():
    runs = study(linear)
    lost = [*runs, Passage("s512", 512, 32, 99, 400, inf, diverged=True)]
    late = [*runs, Passage("s512", 512, 32, 99, 400, inf)]
    assert slope(lost) == slope(runs)
    assert slope(late).estimate > slope(runs).estimate


def test_picks_that_are_shared_put_the_scatter_of_cells_into_the_interval():
    shift = np.array([0.1, -0.1, 0.1, -0.1, 0.1, -0.1])[:, None]
    scattered = study(linear, NOISE + shift)
    shared, fixed = slope(scattered, picks="shared"), slope(scattered)
    x = np.log(BATCHES)
    away = x - x.mean()
    beta = away @ shift[:, 0] / (away @ away)
    rest = shift[:, 0] - beta * away
    half = 2.7764451 * np.sqrt(rest @ rest / 4 / (away @ away))  # t quantile 0.975, 4 degrees of freedom
    assert shared.estimate == pytest.approx(-1 + beta, abs=1e-4)
    assert (shared.high - shared.low) / 2 == pytest.approx(half, rel=1e-3)
    assert shared.high - shared.low > 2 * (fixed.high - fixed.low)


@pytest.mark.parametrize("picks", ["fixed", "shared"])
def test_one_seed_a_cell_has_an_interval_only_if_a_line_is_assumed(picks):
    alone = study(linear, NOISE[:, :1])
    found = slope(alone, picks=picks)
    assert found.open is (picks == "fixed")
    assert not slope(alone, shape="line").open


def test_a_wholly_censored_cell_opens_the_slope_and_is_named():
    runs = [Passage(r.cell, r.batch, r.workers, r.seed, 1000, inf) if r.batch == 16 else r for r in study(linear)]
    found = slope(runs)
    assert np.isnan(found.estimate) and found.low == -inf and np.isfinite(found.high)
    assert "no run tells the mean of batch 16" in found.method
    assert not slope(runs, shape="line").open


def test_where_no_run_reached_there_is_no_slope_but_an_answer():
    nothing = [Passage(f"s{b}", b, 1, i, 100, inf) for b in (16, 32) for i in range(3)]
    for found in (slope(nothing), slope(nothing, shape="line"), slope(nothing, picks="shared")):
        assert found.open and np.isnan(found.estimate)
    assert np.isnan(linear_up_to(nothing).estimate) and hyperbola(nothing) is None
    assert not slope_is(nothing).rejects() and not line_fits(nothing).rejects()


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ([], "no run has a result"),
        (study(linear, batches=(16,)), "every cell has batch 16"),
        ([*study(linear), study(linear)[0]], "cell s16: seed 0 comes twice"),
        ([*study(linear), Passage("s16", 17, 1, 9, 1, 2)], "cell s16 holds runs of batch 16 and 17"),
    ],
)
def test_a_study_without_a_slope_says_why(runs, text):
    with pytest.raises(ConfigError, match=text):
        slope(runs)


@pytest.mark.parametrize(
    ("low", "high", "diverged"),
    [(5, 5, False), (-1, 3, False), (float("nan"), 3, False), (inf, inf, False), (1, 3, True)],
)
def test_a_passage_that_contradicts_itself_is_refused(low, high, diverged):
    with pytest.raises(ConfigError, match="cell c, seed 1"):
        Passage("c", 4, 1, 1, low, high, diverged)


def test_cells_are_counted_in_order_of_batch():
    counted = cells([*study(linear, batches=(512, 16)), Passage("s512", 512, 32, 9, 1, inf)])
    assert [(c.batch, c.runs, c.reached, c.censored) for c in counted] == [(16, 5, 5, 0), (512, 6, 5, 1)]


def test_two_cells_of_one_batch_count_as_two_points():
    double = [*study(linear), *study(linear, prefix="again")]
    assert slope(double).estimate == pytest.approx(-1, abs=1e-4)
    assert len(stretches(double)) == 5


def test_weights_give_the_slope_of_any_line():
    w = weights(BATCHES)
    assert w @ (3 - 0.7 * np.log(BATCHES)) == pytest.approx(-0.7)


def test_a_super_linear_stretch_is_named_and_does_not_end_linearity():
    found = stretches(study(steep))
    assert [s.kind for s in found if (s.start, s.end) == (64, 128)] == ["super-linear"]
    assert found[2].slope.estimate == pytest.approx(-1 + log(0.7) / log(2), abs=1e-3)
    assert linear_up_to(study(steep)).estimate == 512


def test_a_stretch_is_sub_linear_where_its_interval_lies_above_minus_1_and_unsure_where_it_holds_it():
    flat = stretches(study(lambda b: 64000 / min(b, 128)))
    assert [s.kind for s in flat] == ["linear or unsure"] * 3 + ["sub-linear"] * 2
    assert flat[4].slope.estimate == pytest.approx(0, abs=1e-3)


def test_a_bend_is_found_and_a_line_is_not_called_bent():
    assert line_fits(study(bent)).rejects(0.001) and not line_fits(study(linear)).rejects()
    assert slope_is(study(bent)).rejects(0.001) and not slope_is(study(linear)).rejects()


def test_the_test_of_a_slope_rejects_where_the_interval_ends():
    found = slope(study(bent))
    assert slope_is(study(bent), found.low).p == pytest.approx(0.05, abs=1e-4)


def test_the_line_s_lack_of_fit_is_the_f_test_of_the_analysis_of_variance():
    runs = study(bent, NOISE * 10)
    x, y = np.log([r.batch for r in runs]), np.log([r.high for r in runs])
    within = sum(((y[x == v] - y[x == v].mean()) ** 2).sum() for v in np.unique(x))
    about = ((y - np.polyval(np.polyfit(x, y, 1), x)) ** 2).sum()
    assert line_fits(runs).statistic == pytest.approx((about - within) / 4 / (within / 24), rel=1e-4)
    assert line_fits(runs).df == (4, 24)


@pytest.mark.parametrize(("critical", "last"), [(1e9, 512), (1000, 128), (128, 32), (16, 16), (2500, 512)])
def test_linear_up_to_is_the_last_batch_within_a_fifth_of_the_start_s_samples(critical, last):
    batches = np.array(BATCHES)
    samples = batches + critical
    assert batches[samples <= 1.2 * np.sqrt(samples[0] * samples[1])][-1] == last
    found = linear_up_to(study(lambda b: 100 * (1 + critical / b), NOISE / 10))
    assert found.estimate == last and found.covers(last)


def test_one_noisy_first_point_does_not_flatter_the_rest():
    noisy = NOISE.copy()
    noisy[0] += 0.3  # the first cell looks slow
    assert linear_up_to(study(lambda b: 100 * (1 + 128 / b), noisy)).estimate <= 64
    found = excess(study(linear, noisy))
    assert found["s512"].estimate == pytest.approx(np.exp(-0.15), abs=1e-3)


def test_a_study_that_shows_no_end_has_an_open_end_and_sees_what_it_shows():
    found = linearity(study(linear)).up_to
    assert found.estimate == 512 and found.high == inf and found.low >= 256


def test_the_hyperbola_recovers_what_made_it():
    found = hyperbola(study(bent))
    assert found.critical.estimate == pytest.approx(128, rel=2e-3) and found.floor.estimate == pytest.approx(
        500, rel=2e-3
    )
    assert found.critical.covers(128) and found.floor.covers(500) and found.reported
    assert found.steps(128) == pytest.approx(1000, rel=2e-3)


def test_regions_begin_and_end_where_samples_and_steps_are_20_percent_over_their_least():
    found = hyperbola(study(bent))
    zones = regions(found, (16, 512))
    assert zones.perfect.estimate == pytest.approx(128 / 5, rel=2e-3)
    assert zones.maximal.estimate == pytest.approx(5 * 128, rel=2e-3)
    samples, steps = zones.perfect.estimate, zones.maximal.estimate
    assert found.steps(samples) * samples == pytest.approx(1.2 * 500 * 128, rel=5e-3)
    assert found.steps(steps) == pytest.approx(1.2 * 500, rel=5e-3)
    named = [zones.of(s) for s in (16, 25, 64, 512, 1000)]
    assert named == ["perfect scaling"] * 2 + ["diminishing returns"] * 2 + ["maximal parallelism"]
    assert zones.seen(zones.perfect.estimate) and not zones.seen(zones.maximal.estimate)


def test_a_batch_between_the_ends_of_a_border_is_not_sure_of_its_region():
    zones = regions(hyperbola(study(bent, NOISE * 3)), (16, 512))
    middle = [border.estimate * f for border in (zones.perfect, zones.maximal) for f in (0.999, 1.001)]
    assert not any(zones.sure(batch) for batch in middle)
    assert zones.sure(0.9 * zones.perfect.low) and zones.sure(1.1 * zones.maximal.high)
    assert zones.sure(1.1 * zones.perfect.high) and zones.sure(0.9 * zones.maximal.low)


def test_a_curve_that_the_cells_contradict_has_no_regions():
    found = hyperbola(study(lambda s: 1000 * (1 + (s == 64))))
    assert not found.reported and regions(found, (16, 512)) is None and regions(None, (16, 512)) is None


def test_the_hyperbola_s_interval_is_where_its_profile_crosses_the_threshold():
    runs = study(bent, NOISE * 3)
    found = hyperbola(runs)
    y, s = np.log([r.high for r in runs]), np.array([float(r.batch) for r in runs])

    def rss(b):  # exact times: the profile likelihood is -n/2 log rss
        z = y - np.log1p(b / s)
        return ((z - z.mean()) ** 2).sum()

    best = rss(found.critical.estimate)
    assert best <= min(rss(found.critical.estimate * f) for f in (0.99, 1.01))
    for end in (found.critical.low, found.critical.high):
        assert 28 * (rss(end) / best - 1) == pytest.approx(2.0484071**2, rel=1e-3)  # t quantile 0.975, 28 df


@pytest.mark.parametrize(
    ("steps", "estimate", "low", "high"),
    [(linear, inf, 2000, inf), (lambda b: 1000 + 0 * b, 0, 0, 10)],
)
def test_without_a_bend_the_critical_batch_is_open(steps, estimate, low, high):
    found = hyperbola(study(steps))
    assert found.critical.estimate == estimate
    assert found.critical.low >= low and found.critical.high <= high and found.critical.open is (high == inf)


def test_cells_that_no_hyperbola_fits_have_no_critical_batch():
    assert not hyperbola(study(lambda b: 64000 / b**2)).reported


def test_two_batches_lie_on_many_hyperbolas():
    assert hyperbola(study(bent, batches=(16, 32))) is None


def test_the_ideal_line_goes_through_the_pooled_start():
    assert ideal(study(linear)).estimate == pytest.approx(64000, rel=1e-3) and ideal(study(linear)).covers(64000)
    assert ideal([Passage("s16", 16, 1, 0, 5, inf)]) is None


def test_efficiency_and_the_steps_saved_by_doubling_are_what_they_say():
    found = efficiency(excess(study(lambda b: 64000 / b * (1.25 if b == 512 else 1)))["s512"])
    assert found.estimate == pytest.approx(0.8, abs=1e-3) and found.covers(0.8)
    saved = percent_fewer(slope(study(linear)))
    assert saved.estimate == pytest.approx(50, abs=0.01) and saved.low < 50 < saved.high
