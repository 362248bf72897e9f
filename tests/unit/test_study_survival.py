"""Survival curves against lifelines, R, and the conditions that characterise the maximum."""

from itertools import pairwise
from math import inf

import numpy as np
import pytest
from lifelines import KaplanMeierFitter

from hvd_adam.study.passage import Passage
from hvd_adam.study.reach import measured, reach, share
from hvd_adam.study.survival import curve, curves

LOOKS = np.unique(np.ceil(1.05 ** np.arange(240)))


def on_grid(seed, n, censored):
    rng = np.random.default_rng(seed)
    runs = []
    for i, t in enumerate(np.exp(6 + 0.3 * rng.normal(size=n))):
        at = int(np.searchsorted(LOOKS, t))
        late = rng.uniform() < censored
        low, high = (LOOKS[at - 3], inf) if late else (LOOKS[at - 1], LOOKS[at])
        runs.append(Passage("c", 8, 1, i, float(low), float(high)))
    return runs


@pytest.mark.parametrize(("seed", "n", "censored"), [(0, 10, 0.0), (1, 25, 0.3), (2, 400, 0.5)])
def test_on_a_common_grid_the_curve_is_kaplan_and_meier_s(seed, n, censored):
    runs = on_grid(seed, n, censored)
    other = KaplanMeierFitter()
    other.fit([r.high if r.reached else r.low for r in runs], [r.reached for r in runs])
    found = curve(runs)
    np.testing.assert_allclose(found.surviving, other.survival_function_at_times(found.end), atol=1e-9)
    inside = found.surviving > 0
    theirs = other.confidence_interval_.loc[found.end[inside]].to_numpy()
    np.testing.assert_allclose(np.stack([found.low, found.high], 1)[inside], theirs, atol=1e-6)


def test_the_curve_and_its_interval_are_those_of_r_survfit():
    # R 4.2.2, survival 3.5: survfit(Surv(time, reached) ~ 1, conf.type = "log-log")
    runs = [
        (4389, 1),
        (6320, 0),
        (4389, 1),
        (5266, 0),
        (5266, 1),
        (7584, 1),
        (2540, 1),
        (2116, 1),
        (3048, 1),
        (2116, 1),
    ]
    runs += [(1764, 1), (2540, 1)]
    found = curve([Passage("c", 1, 1, i, t - 1 if e else t, t if e else inf) for i, (t, e) in enumerate(runs)])
    np.testing.assert_array_equal(found.end, [1764, 2116, 2540, 3048, 4389, 5266, 7584])
    np.testing.assert_allclose(found.surviving, [11 / 12, 0.75, 7 / 12, 0.5, 1 / 3, 0.25, 0], atol=1e-12)
    low = [0.5389771805707413, 0.4084159131515949, 0.2701389240854973, 0.2084771433067372, 0.1027039799309252]
    high = [0.987825565400458, 0.911720406125698, 0.800940192333387, 0.736073097373045, 0.588418886698838]
    np.testing.assert_allclose(found.low[:5], low, atol=1e-9)
    np.testing.assert_allclose(found.high[:5], high, atol=1e-9)
    assert found.low[6] == 0 and found.high[6] == pytest.approx(1 - 0.025 ** (1 / 12))


def overlapping(seed, n=40):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 100, n)
    return [Passage("c", 1, 1, i, a, inf if i % 5 == 0 else a + rng.uniform(5, 40)) for i, a in enumerate(low)]


@pytest.mark.parametrize("seed", range(5))
def test_where_intervals_overlap_the_shares_maximise_the_likelihood(seed):
    runs = overlapping(seed)
    found = curve(runs)
    rest = 1 - found.share.sum()

    def held(run, start, end):
        return run.low <= start and end <= run.high

    chance = []
    for run in runs:
        mass = sum(s for s, a, b in zip(found.share, found.start, found.end, strict=True) if held(run, a, b))
        chance.append(mass + (rest if run.censored else 0))
    # Gentleman and Geyer 1994: shares are the maximum if no interval anywhere would gain by more mass
    points = np.sort([v for r in runs for v in (r.low, r.high) if np.isfinite(v)])
    for a, b in pairwise(points):
        assert sum(held(r, a, b) / p for r, p in zip(runs, chance, strict=True)) <= len(runs) * (1 + 1e-6)
    for a, b in zip(found.start, found.end, strict=True):
        assert sum(held(r, a, b) / p for r, p in zip(runs, chance, strict=True)) == pytest.approx(len(runs), rel=1e-6)


def test_where_intervals_overlap_the_curve_is_lifelines_s():
    runs = overlapping(7)
    found = curve(runs)
    other = KaplanMeierFitter()
    other.fit_interval_censoring([r.low for r in runs], [r.high for r in runs], tol=1e-12)
    theirs = other.survival_function_["NPMLE_estimate_lower"]
    np.testing.assert_allclose(found.surviving, theirs.reindex(found.end, method="ffill"), atol=1e-6)


def test_a_diverged_run_stays_at_risk_for_ever_and_a_censored_one_does_not():
    reached = [Passage("c", 1, 1, i, 10 * i + 5, 10 * i + 10) for i in range(3)]
    censored = [*reached, Passage("c", 1, 1, 9, 12, inf)]
    diverged = [*reached, Passage("c", 1, 1, 9, 12, inf, diverged=True)]
    np.testing.assert_allclose(curve(censored).surviving, [3 / 4, 3 / 8, 0])
    np.testing.assert_allclose(curve(diverged).surviving, [3 / 4, 1 / 2, 1 / 4])
    # Greenwood by hand: 1 of 4 at risk, then 1 of 3, then 1 of 2
    variance = np.cumsum([1 / (4 * 3), 1 / (3 * 2), 1 / (2 * 1)])
    s = np.array([3 / 4, 1 / 2, 1 / 4])
    low = s ** np.exp(1.959964 * np.sqrt(variance) / -np.log(s))
    np.testing.assert_allclose(curve(diverged).low, low, rtol=1e-5)
    assert curve(diverged).quantile(0.5) == (15, 20) and curve(diverged).quantile(0.9) == (inf, inf)


def test_cells_without_a_run_that_reaches_have_an_empty_curve():
    runs = [Passage("a", 1, 1, 0, 5, inf), Passage("b", 2, 2, 0, 5, inf, diverged=True), Passage("c", 4, 4, 0, 0, 7)]
    found = curves(runs)
    assert [len(found[c].share) for c in "abc"] == [0, 0, 1]
    assert found["a"].at(100) == 1 and found["c"].at(7) == 0


@pytest.mark.parametrize(
    ("count", "runs", "low", "high"),
    [  # binom.test of R
        (0, 3, 0, 0.7075982),
        (3, 3, 0.2924018, 1),
        (4, 10, 0.1215523, 0.7376219),
    ],
)
def test_shares_have_the_exact_interval(count, runs, low, high):
    found = share(count, runs)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-7), pytest.approx(high, abs=1e-7))


def test_cells_that_never_reach_can_be_left_out():
    runs = [Passage("a", 1, 1, 0, 5, inf), Passage("b", 2, 2, 0, 5, inf, diverged=True), Passage("c", 4, 4, 0, 3, 7)]
    assert measured(runs) == runs[2:]


def test_reach_counts_a_diverged_run_as_not_reaching_and_keeps_it_out_of_the_steps():
    steady = [Passage(f"s{b}", b, b, i, 999 / b + i, 1000 / b + i) for b in (1, 2) for i in range(4)]
    wild = [*steady, Passage("s2", 2, 2, 9, 3, inf, diverged=True), Passage("s2", 2, 2, 10, 800, inf)]
    before, after = reach(steady), reach(wild[:-1])
    assert after[1].reached.estimate == 0.8 and after[1].diverged.estimate == 0.2
    assert after[1].steps == before[1].steps
    last = reach(wild)[1]
    assert (last.cell.reached, last.cell.censored, last.cell.diverged) == (4, 1, 1)
    assert last.steps.estimate > before[1].steps.estimate
