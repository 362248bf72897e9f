"""Running products against the gamma function, and inputs at the edge of what float64 can hold."""

import math

import numpy as np
import pytest

from hvd_adam.errors import ConfigError
from hvd_adam.schedules import (
    BiasCorrected,
    Constant,
    HorizonTheta,
    PolynomialTheta,
    Power,
    Product,
    check_training_domain,
    schedule_from_plain,
)
from hvd_adam.schedules.expressions import parse
from hvd_adam.schedules.running_products import log_running_product


@pytest.mark.parametrize("a", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("t", [10**6, 10**6 + 1, 10**7, 10**12])
def test_product_of_1_minus_a_over_i_is_a_ratio_of_gamma_functions(a, t):
    # prod_{i<=t} (1 - a/i) = Gamma(t + 1 - a) / (Gamma(1 - a) Gamma(t + 1)), Stirling: t^-a (1 - a (1 - a)/(2 t))
    exact = -a * math.log(t) - math.lgamma(1 - a) + math.log1p(-a * (1 - a) / (2 * t))
    assert log_running_product(lambda i: a / i, float(t)) == pytest.approx(exact, rel=1e-10)


def test_one_call_for_steps_near_and_far_equals_calls_one_by_one():
    t = np.array([[10**9, 3], [10**6, 70_000], [10**6 + 5, 10**9]], dtype=float)
    together = log_running_product(lambda i: 0.5 / i, t)
    alone = [float(log_running_product(lambda i: 0.5 / i, x)) for x in t.ravel()]
    np.testing.assert_allclose(together.ravel(), alone, rtol=1e-10)


@pytest.mark.parametrize("t", [1, 2, 65_536, 65_537, 200_000])
def test_each_factor_is_taken_once_across_blocks(t):
    # prod_{i<=t} (1 - 1/(i + 1)) = 1/(t + 1)
    assert float(np.exp(log_running_product(lambda i: 1 / (i + 1), t))) == pytest.approx(1 / (t + 1), rel=1e-12)


def test_a_product_that_is_0_stays_0():
    assert np.exp(log_running_product(lambda i: 1 / i, np.array([1.0, 2.0, 1e12]))).tolist() == [0, 0, 0]


def test_bias_correction_keeps_its_digits_where_theta_is_next_to_1_and_ends_at_1():
    early = BiasCorrected(Constant(1.0), Constant(0.0), HorizonTheta(1.0, 10**14))
    assert early(10) == pytest.approx(math.sqrt(10 / 10**14), rel=1e-12, abs=0)
    for theta in (PolynomialTheta(0.9, 1.0, 2), Constant(0.999), parse("1 - 1/t")):
        assert BiasCorrected(Constant(0.1), Constant(0.9), theta)(10**12) == pytest.approx(0.1, rel=1e-9)


def test_complement_of_a_product_does_not_cancel():
    theta = PolynomialTheta(1.0, 1.0)
    assert Product((theta, theta)).complement(10**12) == pytest.approx(2e-12, rel=1e-11, abs=0)
    assert Product((Constant(2.0), Power(1.0, 1.0))).complement(np.array([1, 4])).tolist() == [-1.0, 0.5]
    assert Product((Constant(2.0), Constant(0.25))).complement(1) == 0.5


@pytest.mark.parametrize("steps", [0, -1, 2.5, 10**30, 1e30, True])
def test_the_length_of_a_run_is_a_whole_number(steps):
    with pytest.raises(ConfigError, match="whole number"):
        check_training_domain(Power(1.0, 0.5), "alpha", steps)


@pytest.mark.parametrize("data", [10**400, {"power": {"scale": 10**400, "exponent": 1}}, "1e999", "1e999/t"])
def test_numbers_beyond_float64_are_refused(data):
    with pytest.raises(ConfigError, match="float64"):
        schedule_from_plain(data)


@pytest.mark.parametrize("text", ["t+" * 499 + "t", "1-" * 499 + "t", "(" * 40 + "t" + "+t)" * 40])
def test_the_longest_texts_are_evaluated_without_recursion(text):
    schedule = parse(text)
    assert schedule(1) == eval(text, {"t": 1}) and schedule.complement(1) == 1 - schedule(1)


@pytest.mark.parametrize(
    ("text", "t", "exact"),
    [
        ("-0.5/t^2 + 1", 10**9, 0.5e-18),
        ("0.25 - 1/t^2 + 0.75", 10**9, 1e-18),
        ("exp(-1/t^2)", 10**9, 1e-18),
        ("sqrt(1 - 1/t^2)", 10**9, 0.5e-18),
        ("max(0.5, min(1 - 2/t^2, 1 - 1/t^2))", 10**9, 2e-18),
        ("2 + t", 5, -6.0),
        ("sqrt(t)", 9, -2.0),
    ],
)
def test_complement_of_an_expression_does_not_cancel(text, t, exact):
    assert parse(text).complement(t) == pytest.approx(exact, rel=1e-14, abs=0)
