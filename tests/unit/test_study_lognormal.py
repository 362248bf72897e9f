"""The accelerated-failure model against R's survival, lifelines, and closed forms."""

from math import inf

import mpmath
import numpy as np
import pandas
import pytest
from lifelines import LogNormalAFTFitter

from hvd_adam.study.contrast import Model
from hvd_adam.study.lognormal import _interval, fit
from hvd_adam.study.passage import Passage
from hvd_adam.study.sample import Sample, sample
from hvd_adam.study.slope import line

RUNS = [
    # batch, seed, low, high
    (16, 0, 3657, 4389),
    (16, 1, 6320, inf),
    (16, 2, 3657, 4389),
    (16, 3, 5266, inf),
    (16, 4, 4389, 5266),
    (16, 5, 6320, 7584),
    (32, 0, 2116, 2540),
    (32, 1, 1764, 2116),
    (32, 2, 2540, 3048),
    (32, 3, 1764, 2116),
    (32, 4, 1470, 1764),
    (32, 5, 2116, 2540),
    (64, 0, 492, 591),
    (64, 1, 851, 1021),
    (64, 2, 709, inf),
    (64, 3, 1225, 1470),
    (64, 4, 709, 851),
    (64, 5, 1470, inf),
    (128, 0, 492, 591),
    (128, 1, 410, 492),
    (128, 2, 492, 591),
    (128, 3, 591, 709),
    (128, 4, 342, 410),
    (128, 5, 342, inf),
    (128, 6, 0, 342),
]

STUDY = [Passage(f"s{batch}", batch, batch // 16, seed, low, high) for batch, seed, low, high in RUNS]


@pytest.mark.parametrize(
    ("design", "coefficients", "errors", "sigma", "sigma_error"),
    [
        # R 4.2.2, survival 3.5: survreg(Surv(low, high, type = "interval2") ~ log(batch), dist = "lognormal",
        # control = list(rel.tolerance = 1e-14)); low is NA where it is 0, high where it is inf
        (
            "line",
            [11.81155854418850, -1.17645692360154],
            [0.3035367710194278, 0.0774890196683008],
            0.284307567824951,
            0.1693993752962516,
        ),
        # ~ factor(batch) - 1
        (
            "free",
            [8.61163486761987, 7.65750561050687, 6.89739342015690, 6.13943558354923],
            [0.123480922597700, 0.116288191787260, 0.125352610546787, 0.114428346124439],
            0.279878177642577,
            0.169605130142852,
        ),
    ],
)
def test_estimates_and_standard_errors_are_those_of_r_survreg(design, coefficients, errors, sigma, sigma_error):
    data = sample([STUDY])
    found = fit(data, line(data.batches) if design == "line" else np.eye(4))
    np.testing.assert_allclose(found.coefficients[0], coefficients, rtol=1e-9)
    np.testing.assert_allclose(found.sigma[0], sigma, rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(found.covariance()[0])), [*errors, sigma_error], rtol=1e-6)


def test_estimates_are_those_of_lifelines():
    runs = [run for run in STUDY if run.low > 0]  # lifelines' gradient is nan for a run met before the first look
    frame = pandas.DataFrame([(run.low, run.high, np.log(run.batch)) for run in runs], columns=["low", "high", "x"])
    other = LogNormalAFTFitter()
    other._scipy_fit_method, other._scipy_fit_options = "BFGS", {"gtol": 1e-7}  # at 1e-8 some processors lack digits
    other.fit_interval_censoring(frame, "low", "high")
    data = sample([runs])
    found = fit(data, line(data.batches))
    theirs = other.params_["mu_"][["Intercept", "x"]]
    np.testing.assert_allclose(found.coefficients[0], theirs, rtol=1e-6)
    np.testing.assert_allclose(np.log(found.sigma[0]), other.params_["sigma_"]["Intercept"], rtol=1e-6)


@pytest.mark.parametrize(
    ("low", "high"), [(-3, 4), (7.9, 8.1), (-8.1, -7.9), (30, 31), (-39, -38), (35, inf), (-inf, -35)]
)
def test_far_out_in_either_tail_the_likelihood_keeps_its_digits(low, high):
    log_p, up, down = _interval(np.array([high]), np.array([low]))
    with mpmath.workdps(80):
        a, b = (mpmath.ncdf(v) if v < 0 else 1 - mpmath.ncdf(-v) for v in (low, high))
        whole = mpmath.ncdf(-low) - mpmath.ncdf(-high) if low > 0 else b - a
        assert log_p[0] == pytest.approx(float(mpmath.log(whole)), rel=1e-11)
        for end, found in ((high, up[0]), (low, down[0])):
            assert found == pytest.approx(float(mpmath.npdf(end) / whole) if np.isfinite(end) else 0, rel=1e-9)


def exact(seeds=3, cells=6):
    rng = np.random.default_rng(5)
    x = np.log(16 * 2.0 ** np.arange(cells))
    y = (12 - x)[:, None] + 0.15 * rng.normal(size=(cells, seeds))
    member = np.repeat(np.eye(cells), seeds, 0)
    return x, y, Sample(y.reshape(1, -1), y.reshape(1, -1), np.ones((1, y.size)), member, np.exp(x))


def test_without_censoring_the_interval_is_student_s():
    x, y, data = exact()
    w = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    found = Model(data).intervals(w[None])
    spread = np.sqrt(y.var(1, ddof=1).mean())
    half = 2.1788128296634177 * spread * np.sqrt(w @ w / 3)  # t quantile 0.975, 12 degrees of freedom
    np.testing.assert_allclose(found.estimate[0, 0], w @ y.mean(1), rtol=1e-9)
    np.testing.assert_allclose([found.low[0, 0], found.high[0, 0]], w @ y.mean(1) + [-half, half], rtol=1e-5)
    np.testing.assert_allclose(Model(data).sigma[0], spread, rtol=1e-8)


def test_the_ends_of_an_interval_are_where_t_reaches_its_quantile():
    data = sample([STUDY])
    model = Model(data)
    contrasts = np.array([[-1.0, 1, 0, 0], [1, 0, 0, -2], [0.1, 0.2, 0.3, 0.4]])
    found = model.intervals(contrasts)
    quantile = 2.0995  # interpolated for 18.5 degrees of freedom from 2.1009 (18) and 2.0930 (19)
    for ends, sign in ((found.low, -1), (found.high, 1)):
        np.testing.assert_allclose(model.t(contrasts, ends), sign * quantile * np.ones((1, 3)), rtol=3e-3)
    assert (found.low < found.estimate).all() and (found.estimate < found.high).all()


def test_a_wholly_censored_cell_leaves_its_contrasts_open_on_its_side_only():
    _, _, data = exact()
    high = data.high.copy()
    high[0, :3] = inf
    model = Model(Sample(data.low, high, data.weight, data.member, data.batches))
    found = model.intervals(np.array([[1.0, -1, 0, 0, 0, 0], [-1, 1, 0, 0, 0, 0], [0, 1, -1, 0, 0, 0]]))
    assert np.isnan(found.estimate[0, :2]).all() and np.isfinite(found.estimate[0, 2])
    assert found.high[0, 0] == inf and np.isfinite(found.low[0, 0])
    assert found.low[0, 1] == -inf and found.high[0, 1] == pytest.approx(-found.low[0, 0], rel=1e-5)
    assert np.isfinite([found.low[0, 2], found.high[0, 2]]).all()


def test_many_studies_at_once_are_each_study_alone():
    others = [
        [Passage(r.cell, r.batch, r.workers, r.seed, r.low * f, r.high * f) for r in STUDY] for f in (1, 1.5, 0.7)
    ]
    w = np.array([[-1.0, 0, 0, 1]])
    together = Model(sample(others)).intervals(w)
    for b, study in enumerate(others):
        alone = Model(sample([study])).intervals(w)
        for name in ("estimate", "low", "high"):
            np.testing.assert_allclose(getattr(together, name)[b], getattr(alone, name)[0], rtol=1e-6)


def test_scaling_all_steps_moves_means_and_nothing_else():
    moved = [Passage(r.cell, r.batch, r.workers, r.seed, r.low * 10, r.high * 10) for r in STUDY]
    here, there = (fit(sample([s]), np.eye(4)) for s in (STUDY, moved))
    np.testing.assert_allclose(there.coefficients - here.coefficients, np.log(10), rtol=1e-9)
    np.testing.assert_allclose(there.sigma, here.sigma, rtol=1e-9)


def test_a_grid_too_coarse_to_see_any_spread_is_said_to_be():
    same = [
        Passage(f"s{batch}", batch, 1, seed, 1000 / batch, 1250 / batch) for batch in (1, 2, 4) for seed in range(3)
    ]
    found = Model(sample([same]))
    assert found.fit.bounded[0]
    interval = found.intervals(np.array([[-0.5, 0, 0.5]]) / np.log(2))
    assert interval.low[0, 0] < -1 < interval.high[0, 0]


def test_narrow_intervals_and_exact_times_give_one_fit():
    _, y, data = exact()
    flat = y.reshape(1, -1)
    for width in (5e-6, 2e-5, 1e-3):  # both sides of where an interval is taken for its middle
        near = Sample(flat - width / 2, flat + width / 2, data.weight, data.member, data.batches)
        a, b = fit(near, np.eye(6)), fit(data, np.eye(6))
        np.testing.assert_allclose(a.coefficients, b.coefficients, atol=1e-6)
        np.testing.assert_allclose(a.sigma, b.sigma, rtol=1e-5)
