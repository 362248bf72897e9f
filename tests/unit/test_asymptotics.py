"""The algebra of growth against 60-digit evaluation, and the shapes against every t that is looked at."""

from __future__ import annotations

import os
import re
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvd_adam.errors import ConfigError
from hvd_adam.schedules import BiasCorrected, CosineDecay, LinearWarmup, PolynomialTheta, Power, StepDecay, parse
from hvd_adam.theory import germs
from hvd_adam.theory.bands import band_of
from hvd_adam.theory.orders import CONSTANT, Order, Unclear, exact
from hvd_adam.theory.shapes import shape_of
from hvd_adam.theory.trees import tree_of

EXAMPLES = 5000 if os.environ.get("HVD_ADAM_CAMPAIGN") else 200
EXPRESSIONS = [
    "0.1/t^0.35", "1 - (1 - 0.5/t)", "sqrt(t + 1) - sqrt(t)", "(t^4 + 1)^0.5 - t^2", "log(t + 1) - log(t)",
    "1/log(t + 2)^2 + 3/t", "exp(-0.3*log(t))", "exp(1/t) - 1", "1 - cos(1/t)", "cos(pi*(1 - 1/t)) + 1",
    "t^(1/3)/(2*t + 5)^(1/3)", "log(log(t + 3))/sqrt(t)", "max(0.1/t, 0.01/sqrt(t))", "min(t/100, 1)/t",
    "(1 + 1/t)^7 - 1 - 7/t", "2^(1/t) - 1", "sqrt(2)*t/(t + 1)", "log(t^2 + t)", "1/(1 + exp(-t))/t", "exp(2 - 1/t)/t",
]  # fmt: skip


def value_of_order(order: Order, t: mpmath.mpf) -> mpmath.mpf:
    value = t ** mpmath.mpf(str(float(order.a))) if not isinstance(order.a, Fraction) else t ** _number(order.a)
    return value * mpmath.log(t) ** _number(order.b) * mpmath.log(mpmath.log(t)) ** _number(order.d)


def _number(x: Fraction) -> mpmath.mpf:
    return mpmath.mpf(x.numerator) / x.denominator


def value(text: str, t: mpmath.mpf) -> mpmath.mpf:
    names = {name: getattr(mpmath, name) for name in ("sqrt", "exp", "log", "cos", "pi")}
    literal = mpmath.mpf
    text = "".join(f"literal('{part}')" if part[0].isdigit() else part for part in _parts(text.replace("^", "**")))
    return eval(text, {"__builtins__": {}}, {**names, "min": min, "max": max, "t": t, "literal": literal})


def _parts(text: str) -> list[str]:
    return [part for part in re.split(r"(\d+\.?\d*)", text) if part]


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_leading_term_is_that_of_a_60_digit_evaluation_far_out(text):
    band = band_of(tree_of(parse(text)))
    assert band.is_point
    c, order = band.low.lead
    t = mpmath.mpf(10) ** 200
    with mpmath.workdps(1000):
        found = value(text, t) / (mpmath.mpf(str(c)) if isinstance(c, float) else _number(c)) / value_of_order(order, t)
    assert float(found) == pytest.approx(1.0, abs=0.01 if order.d or "log" in text else 1e-12)


@pytest.mark.parametrize(
    ("order", "sums"),
    [
        (Order(a=exact(-0.3)), Order(a=exact(0.7))),
        (Order(a=exact(-1.0)), Order(b=exact(1.0))),
        (Order(a=exact(-1.0), b=exact(-0.5)), Order(b=exact(0.5))),
        (Order(a=exact(-1.0), b=exact(-1.0)), Order(d=exact(1.0))),
        (Order(a=exact(-1.0), b=exact(-1.01)), CONSTANT),
        (Order(a=exact(-1.01), b=exact(5.0)), CONSTANT),
        (Order(a=exact(1.0), b=exact(2.0)), Order(a=exact(2.0), b=exact(2.0))),
        (Order(fast=((Fraction(1), -0.1),), a=exact(9.0)), CONSTANT),
    ],
)
def test_partial_sums_have_the_order_of_the_integral(order, sums):
    assert germs.partial_sums(germs.Germ(((exact(1.0), order),))).lead[1] == sums


@pytest.mark.parametrize(
    "text",
    ["t^t", "log(log(log(t + 20)))", "t^exp(1)/t^2.718281828459045", "exp(1)*t - exp(1)*t"],
)
def test_what_leaves_the_algebra_gets_no_answer(text):
    with pytest.raises(Unclear):
        assert band_of(tree_of(parse(text))).low.lead


def test_decimals_are_read_as_they_were_written():
    assert 2 * exact(0.35) == exact(0.7)
    assert exact(1 / 3) == Fraction(1, 3)
    assert exact(0.1 + 0.2) > exact(0.3)


SCHEDULES = [
    PolynomialTheta(0.5, 0.7, 30), LinearWarmup(Power(0.1, 0.5), 40), CosineDecay(0.1, 0.01, 60),
    StepDecay(0.1, 0.5, 7),
    BiasCorrected(parse("0.1"), parse("0.9"), parse("1 - 0.5/t")), parse("log(t + 1)/t"), parse("(2 + cos(t))/t"),
]  # fmt: skip
leaves = st.sampled_from(["t", "t", "1", "2", "0.5", "3", "pi"])
texts = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/^"), inner).map(lambda x: f"({x[0]}{x[1]}{x[2]})"),
        st.tuples(st.sampled_from(["sqrt", "exp", "log", "cos"]), inner).map(lambda x: f"{x[0]}({x[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda x: f"{x[0]}({x[1]}, {x[2]})"),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(schedule=st.one_of(st.sampled_from(SCHEDULES), texts), first=st.sampled_from([1, 2, 10]))
def test_shapes_bound_every_value_and_know_its_direction(schedule, first):
    try:
        schedule = parse(schedule) if isinstance(schedule, str) else schedule
        shape = shape_of(tree_of(schedule), first)
    except (ConfigError, Unclear):
        return
    values = schedule(np.arange(first, first + 300))
    values = values[np.isfinite(values)]
    slack = 1e-9 * np.maximum(1.0, np.abs(values))
    assert (values >= shape.range.low - slack).all() and (values <= shape.range.high + slack).all()
    if shape.rising:
        assert (np.diff(values) >= -slack[1:]).all()
    if shape.falling:
        assert (np.diff(values) <= slack[1:]).all()
    if shape.range.is_positive:
        assert (values >= 0).all()


constants = st.sampled_from(["t", "t", "1", "2", "0.5", "3", "0.7", "1.4"])
algebraic = st.recursive(
    constants,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda x: f"({x[0]}{x[1]}{x[2]})"),
        st.tuples(inner, st.sampled_from(["2", "0.5", "(1/3)", "0.35", "-1"])).map(lambda x: f"({x[0]})^({x[1]})"),
        st.tuples(st.sampled_from(["sqrt", "log", "cos"]), inner).map(lambda x: f"{x[0]}({x[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda x: f"{x[0]}({x[1]}, {x[2]})"),
    ),
    max_leaves=8,
)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=algebraic)
def test_bands_hold_the_value_far_out(text):
    """At t = 10^300 in 1,500 digits: the leading terms are right to the slowest correction, one over log log t."""
    try:
        band = band_of(tree_of(parse(text)))
        ends = [germ.lead for germ in (band.low, band.high)]
    except (ConfigError, Unclear):
        return
    with mpmath.workdps(1500):
        t = mpmath.mpf(10) ** 300 + 7
        found = value(text, t)
        low, high = (
            (mpmath.mpf(c) if isinstance(c, float) else _number(c)) * value_of_order(order, t) for c, order in ends
        )
        slack = mpmath.mpf(0.4) * max(abs(low), abs(high))
        assert not isinstance(found, mpmath.mpc)
        assert low - slack <= found <= high + slack
