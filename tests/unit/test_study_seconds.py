"""From steps to seconds to node-hours, on studies whose answer is known."""

from math import inf, nan

import numpy as np
import pytest
from scipy.stats import t

from hvd_adam.errors import ConfigError
from hvd_adam.study.cost import choose, options
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.passage import Passage
from hvd_adam.study.seconds import Clock, Timing, efficiencies, product, time_to_target
from hvd_adam.study.step_time import StepTime

NODES = (1, 2, 4, 8, 16)


def ring(n, samples=16, fixed=0.01, compute=0.002, latency=1e-4, transfer=0.03):
    """Seconds a step, written out."""
    return fixed + compute * samples + latency * 2 * (n - 1) + transfer * 2 * (n - 1) / n


def study(nodes=NODES, seeds=4, steps=lambda s: 64000 / s, spread=0.05):
    rng = np.random.default_rng(2)
    passages, timings = [], []
    for n in nodes:
        for seed in range(seeds):
            t = steps(16 * n) * np.exp(spread * rng.normal())
            passages.append(Passage(f"n{n}", 16 * n, n, seed, t * (1 - 1e-4), t))
            compute, waiting = ring(1), ring(n) - ring(1)
            jitter = np.exp(0.02 * rng.normal())
            timings.append(
                Timing(
                    f"n{n}",
                    16 * n,
                    n,
                    seed,
                    ring(n) * jitter,
                    {"compute": compute * jitter, "waiting": waiting * jitter},
                )
            )
    return passages, timings


def test_time_to_target_is_steps_times_seconds_with_both_errors():
    passages, timings = study()
    clock = Clock(timings)
    found, pace = time_to_target(passages, clock), clock.seconds_a_step()
    for n in NODES:
        total = found[f"n{n}"]
        assert total.estimate == pytest.approx(64000 / 16 / n * ring(n), rel=0.1)
        assert total.low < 4000 / n * ring(n) < total.high
        wide = np.log(total.high / total.estimate)
        assert wide > np.log(pace[f"n{n}"].high / pace[f"n{n}"].estimate)


def test_the_interval_of_a_cell_is_student_s_with_one_spread_for_all():
    _, timings = study(seeds=4)
    logs = np.log([[t.seconds for t in timings if t.cell == f"n{n}"] for n in NODES])
    sigma, half = np.sqrt(logs.var(1, ddof=1).mean()), t.ppf(0.975, 15) / np.sqrt(4)
    found = Clock(timings).seconds_a_step()
    for n, row in zip(NODES, logs, strict=True):
        one = found[f"n{n}"]
        assert np.log([one.estimate, one.low, one.high]) == pytest.approx(
            row.mean() + sigma * half * np.array([0, -1, 1])
        )
    worse = Clock(timings).intervals(np.array([[1.0, -1, 0, 0, 0], [0, 0, 0, 0, 0]]))
    assert worse.high[0, 0] - worse.low[0, 0] == pytest.approx(2 * half * sigma * np.sqrt(2))
    assert (worse.low[0, 1], worse.high[0, 1]) == (0, 0)


def test_half_widths_of_a_product_add_in_squares_on_the_log_scale():
    a = Estimate(2.0, 2.0 / np.exp(0.3), 2.0 * np.exp(0.3), 0.95, 5, "a")
    b = Estimate(5.0, 5.0 / np.exp(0.4), 5.0 * np.exp(0.4), 0.95, 7, "b")
    found = product(a, b, "a x b")
    assert found.estimate == 10 and found.n == 5
    assert (found.low, found.high) == (pytest.approx(10 * np.exp(-0.5)), pytest.approx(10 * np.exp(0.5)))
    assert product(a, Estimate(5.0, 0.0, inf, 0.95, 0, "b"), "").open


def test_a_single_timing_is_said_to_be_one():
    passages, timings = study(seeds=3)
    clock = Clock([t for t in timings if t.seed == 0])
    assert clock.seconds_a_step()["n4"].open and "single run" in clock.seconds_a_step()["n4"].method
    total = time_to_target(passages, clock)["n4"]
    assert not total.open and "timed once, taken as exact" in total.method


def test_algorithmic_times_system_efficiency_is_the_total():
    passages, timings = study(steps=lambda s: 400 * (1 + 64 / s))
    clock = Clock(timings)
    found, seconds = efficiencies(passages, clock), time_to_target(passages, clock)
    start = np.sqrt(seconds["n1"].estimate * seconds["n2"].estimate * 2)  # node-seconds of the pooled start
    for n in NODES:
        e = found[f"n{n}"]
        assert e.total.estimate == pytest.approx(e.algorithmic.estimate * e.system.estimate)
        assert e.total.estimate == pytest.approx(start / (n * seconds[f"n{n}"].estimate), rel=1e-6)
        assert e.total.low < e.total.estimate < e.total.high
    assert found["n16"].algorithmic.estimate == pytest.approx(np.sqrt(80 * 96) / (256 + 64), rel=0.1)
    assert found["n16"].system.estimate == pytest.approx(np.sqrt(ring(1) * ring(2)) / ring(16), rel=0.1)


def test_the_shares_of_a_step_are_those_of_its_phases():
    _, timings = study()
    shares = Clock(timings).shares()
    assert shares["n16"]["waiting"] == pytest.approx((ring(16) - ring(1)) / ring(16), rel=1e-6)
    assert sum(shares["n4"].values()) == pytest.approx(1) and "waiting" not in shares["n1"]


@pytest.mark.parametrize(
    ("timings", "text"),
    [
        ([], "no run has a timing"),
        ([Timing("a", 16, 1, 0, 1.0), Timing("a", 16, 2, 1, 1.0)], "cell a was run on 1 and on 2 nodes"),
    ],
)
def test_timings_that_cannot_be_used_say_why(timings, text):
    with pytest.raises(ConfigError, match=text):
        Clock(timings)


@pytest.mark.parametrize("seconds", [0.0, -1.0, nan, inf])
def test_a_step_takes_some_time(seconds):
    with pytest.raises(ConfigError, match="a step on 1 nodes"):
        Timing("a", 16, 1, 0, seconds)


def test_the_step_time_of_unseen_node_counts_is_the_model_s():
    _, timings = study()
    model = StepTime(timings)
    for n in (3, 16, 32, 64):
        found = model(n, 16 * n)
        assert found.seconds.estimate == pytest.approx(ring(n), rel=0.1)
        assert found.extrapolated is (n > 16) and ("extrapolated" in found.seconds.method) is (n > 16)
    assert model(16, 256).seconds.covers(ring(16))
    assert model(1, 16).waiting == 0 and model(64, 1024).waiting > 0.4


def test_extrapolation_is_cut_at_four_times_what_was_run():
    model = StepTime(study()[1])
    with pytest.raises(ConfigError, match="65 nodes, and 16 were run at most"):
        model(65, 65 * 16)
    with pytest.raises(ConfigError, match="seconds a step on 1 node"):
        StepTime([t for t in study()[1] if t.nodes == 1])


def test_no_coefficient_of_the_step_time_is_negative_though_more_nodes_were_faster():
    model = StepTime([Timing(f"n{n}", 64, n, seed, 0.5 / n + 0.001 * seed, {}) for n in (1, 2, 4) for seed in range(3)])
    assert (model.coefficients >= 0).all() and model.error < 0.2


def times(**seconds):
    return {name: Estimate(v, v / 1.05, v * 1.05, 0.95, 4, "") for name, v in seconds.items()}


def test_node_counts_are_recommended_by_time_and_by_cost():
    found = options(times(a=1000, b=520, c=300, d=280, e=290), {"a": 1, "b": 2, "c": 4, "d": 8, "e": 16})
    choice = choose(found)
    assert (choice.fastest.nodes, choice.cheapest.nodes, choice.cheap_and_fast.nodes) == (8, 1, 4)
    assert choice.rivals == (4, 16)
    assert choice.fastest.node_hours.estimate == pytest.approx(8 * 280 / 3600)
    assert choice.fastest.node_hours.low == pytest.approx(8 * 280 / 1.05 / 3600)


def test_cells_without_a_time_are_no_option():
    assert choose(options({"a": Estimate(nan, 0, inf, 0.95, 3, "")}, {"a": 1})) is None
