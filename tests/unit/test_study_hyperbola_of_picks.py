"""The hyperbola that allows for picked learning rates, against scipy's least squares and the one without picks."""

from math import inf

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.special import fdtrc, stdtrit

from hvd_adam.study.hyperbola import hyperbola
from hvd_adam.study.hyperbola_of_picks import hyperbola_with_picks
from hvd_adam.study.passage import Passage

BATCHES = (16, 32, 64, 128, 256, 512)
NOTHING = {f"b{s}": 0.0 for s in BATCHES}


def study(seeds=5, spread=0.15, moved=None, critical=100.0, seed=0):
    """Runs whose T is known to a millionth; `moved` shifts log T of whole cells, as a pick does."""
    rng = np.random.default_rng(seed)
    made = []
    for s in BATCHES:
        middle = np.log(200 * (1 + critical / s)) + (moved or {}).get(f"b{s}", 0.0)
        made += [
            Passage(f"b{s}", s, 1, i, t * (1 - 1e-6), t)
            for i, t in enumerate(np.exp(middle + spread * rng.normal(size=seeds)))
        ]
    return made


def means(passages):
    logs = [np.log([p.high for p in passages if p.batch == s]) for s in BATCHES]
    within = sum(((x - x.mean()) ** 2).sum() for x in logs)
    n, k = len(passages), len(BATCHES)
    return np.array([x.mean() for x in logs]), within / (n - k) / (n / k), n - k


def test_with_nothing_added_it_is_the_hyperbola_of_free_means():
    runs = study()
    found, alone = hyperbola_with_picks(runs, NOTHING), hyperbola(runs)
    assert found.critical.estimate == pytest.approx(alone.critical.estimate, rel=1e-3)
    assert found.floor.estimate == pytest.approx(alone.floor.estimate, rel=1e-3)
    assert found.fits.statistic == pytest.approx(alone.fits.statistic, rel=1e-3)
    assert found.fits.p == pytest.approx(alone.fits.p, abs=1e-4) and found.fits.df == alone.fits.df


def test_estimate_and_lack_of_fit_are_those_of_scipy_with_both_variances():
    runs = study(moved={"b64": 0.15, "b256": -0.1})
    tau = np.array([0.0, 0.1, 0.2, 0.05, 0.15, 0.0])
    found = hyperbola_with_picks(runs, dict(zip(NOTHING, tau, strict=True)))
    logs, by_seeds, df = means(runs)
    error = np.sqrt(by_seeds + tau**2)

    def curve(s, a, u):
        return a + np.log1p(np.exp(u) / s)

    (a, u), _ = curve_fit(curve, np.array(BATCHES, float), logs, p0=(5.0, 4.0), sigma=error, absolute_sigma=True)
    assert found.critical.estimate == pytest.approx(np.exp(u), rel=1e-3)
    assert found.floor.estimate == pytest.approx(np.exp(a), rel=1e-3)
    q = (((logs - curve(np.array(BATCHES, float), a, u)) / error) ** 2).sum()
    assert found.fits.statistic == pytest.approx(q / 4, rel=1e-3)
    assert found.fits.p == pytest.approx(fdtrc(4, df, q / 4), abs=1e-4)

    def least(u):
        rest = logs - np.log1p(np.exp(u) / np.array(BATCHES))
        return (((rest - np.average(rest, weights=error**-2)) / error) ** 2).sum()

    for end in (found.critical.low, found.critical.high):
        assert least(np.log(end)) - least(u) == pytest.approx(stdtrit(df, 0.975) ** 2, rel=1e-2)


def test_cells_that_their_picks_moved_contradict_a_hyperbola_only_where_nothing_is_allowed_for():
    runs = study(seeds=10, moved={"b32": 0.25, "b256": -0.25})
    assert not hyperbola(runs).reported
    found = hyperbola_with_picks(runs, dict.fromkeys(NOTHING, 0.2))
    assert found.reported and found.critical.covers(100)
    strict = hyperbola_with_picks(runs, NOTHING)
    assert not strict.reported and found.critical.high / found.critical.low > strict.critical.high / strict.critical.low


def test_a_line_has_no_critical_batch_and_a_level_no_slope():
    line = study(critical=1e7, spread=0.05)
    assert hyperbola_with_picks(line, NOTHING).critical.high == inf
    level = study(critical=1e-6, spread=0.05)
    assert hyperbola_with_picks(level, NOTHING).critical.low == 0


def test_a_cell_without_a_mean_leaves_it_conditional_on_the_picks():
    runs = [*study()[:-5], *(Passage("b512", 512, 1, i, 100.0, inf) for i in range(5))]
    found, alone = hyperbola_with_picks(runs, dict.fromkeys(NOTHING, 0.1)), hyperbola(runs)
    assert found.critical.estimate == alone.critical.estimate
    assert "conditional on the learning rates" in found.critical.method
    assert "conditional on the learning rates" in hyperbola_with_picks(study(), None).critical.method
    assert hyperbola_with_picks(runs[:10], NOTHING) is None
