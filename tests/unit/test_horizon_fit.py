"""T(eps) from runs at several horizons: exact lines are inverted exactly, intervals cover, bad input is refused."""

from __future__ import annotations

import numpy as np
import pytest

from hvd_adam.errors import ConfigError
from hvd_adam.theory.horizon_fit import fit_horizon, search_horizon


def noisy(rng, horizons, root, target, exponent=-0.25, spread=0.02):
    t = np.asarray(horizons, dtype=float)
    return target * (t / root) ** exponent * np.exp(spread * rng.standard_normal(len(t)))


def test_a_power_law_is_inverted_exactly():
    horizons = [500, 1000, 2000]
    fit = fit_horizon(horizons, [3.0 * (t / 1234.5) ** -0.25 for t in horizons], 3.0)
    assert fit.horizon == pytest.approx(1234.5, rel=1e-12)
    assert fit.exponent == pytest.approx(-0.25, rel=1e-12)
    assert fit.inside and fit.runs == 3
    assert fit.low == pytest.approx(fit.high)


@pytest.mark.parametrize("runs", [1, 3, 8])
def test_the_interval_covers_the_root_as_often_as_it_says(runs):
    rng, horizons, covered, n = np.random.default_rng(1), np.repeat([760, 870, 1000, 1150, 1320], runs), 0, 400
    for k in range(n):
        fit = fit_horizon(horizons, noisy(rng, horizons, 1040.0, 1.0), 1.0, resamples=300, seed=k)
        covered += fit.low <= 1040.0 <= fit.high
    assert (0.8 if runs == 1 else 0.9) <= covered / n <= 0.975  # a bootstrap of few runs is a little narrow


def test_the_influences_of_runs_are_what_moving_each_of_them_moves():
    rng, horizons = np.random.default_rng(4), np.repeat([760, 870, 1000, 1150], 2)
    criteria = noisy(rng, horizons, 900.0, 1.0, spread=0.01)
    fit = fit_horizon(horizons, criteria, 1.0)
    assert fit.influences.sum() == pytest.approx(0, abs=1e-12)
    line = np.polyfit(np.log(horizons), np.log(criteria), 1)
    for i in range(len(horizons)):
        moved, h = criteria.copy(), 1e-6
        moved[i] *= np.exp(h)
        share = (np.log(fit_horizon(horizons, moved, 1.0).horizon) - np.log(fit.horizon)) / h
        residual = np.log(criteria[i]) - np.polyval(line, np.log(horizons[i]))
        assert fit.influences[i] == pytest.approx(share * residual, rel=1e-4, abs=1e-9)


def test_replicates_that_do_not_lie_on_a_line_are_seen():
    rng, horizons = np.random.default_rng(2), np.repeat([500, 1000, 2000], 16)
    straight = noisy(rng, horizons, 1000.0, 1.0, spread=0.01)
    bent = straight * np.where(horizons == 1000, 1.1, 1.0)
    assert fit_horizon(horizons, straight, 1.0).lack_of_fit < 3 < 6 < fit_horizon(horizons, bent, 1.0).lack_of_fit


@pytest.mark.parametrize("guess", [3.0, 1e3, 1e6, 1e8])
def test_the_search_finds_the_root_from_far_away(guess):
    rng = np.random.default_rng(3)
    calls = []

    def measure(horizon, runs):
        calls.append(horizon)
        return noisy(rng, [horizon] * runs, 5e4, 2.0) + 1e-3 * (1 + horizon) ** -0.5

    fit = search_horizon(measure, 2.0, guess, runs=16)
    assert fit.low < 5e4 * 1.02 and fit.high > 5e4 * 0.98
    assert fit.horizon == pytest.approx(5e4, rel=0.05)
    assert fit.runs == 80 and max(calls) < 1e9


@pytest.mark.parametrize(
    ("horizons", "criteria", "target", "said"),
    [
        ([100, 100, 100], [1.0, 1.1, 1.2], 1.0, "two horizons"),
        ([100, 200], [1.0, 0.9], 1.0, "three runs"),
        ([100, 200, 300], [1.0, 1.0, float("nan")], 1.0, "criteria: nan"),
        ([100, 200], [1.0, 0.0], 1.0, "criteria: 0"),
        ([0, 200], [1.0, 2.0], 1.0, "horizons: 0"),
        ([100, 200], [1.0, 0.9], -1.0, "target: -1"),
        ([100, 200, 300], [1.0, 1.2, 1.3], 1.0, "does not come down"),
    ],
)
def test_what_cannot_be_inverted_is_refused(horizons, criteria, target, said):
    with pytest.raises(ConfigError, match=said):
        fit_horizon(horizons, criteria, target)


def test_a_target_that_is_never_reached_is_said_so():
    with pytest.raises(ConfigError, match="did not come down to it"):
        search_horizon(lambda horizon, runs: np.full(runs, 5.0), 1.0, 100, longest=1e5)
