"""Schedules against closed forms, torch's own schedulers and exact arithmetic."""

import copy
import math
import pickle
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest
import torch
import yaml

from hvd_adam.errors import ConfigError
from hvd_adam.schedules import (
    BiasCorrected,
    Constant,
    CosineDecay,
    Geometric,
    HorizonAlpha,
    HorizonTheta,
    LinearDecay,
    LinearWarmup,
    Piecewise,
    PolynomialTheta,
    Power,
    Product,
    StepDecay,
    check_training_domain,
    schedule_from_plain,
)
from hvd_adam.schedules.expressions import Expression, parse

POWER = Power(0.1, 0.5)
EVERY_KIND = [
    Constant(0.1),
    POWER,
    PolynomialTheta(0.9, 0.5, 3),
    HorizonAlpha(2.0),
    HorizonAlpha(2.0, 100),
    HorizonTheta(3.0),
    HorizonTheta(3.0, 100),
    Geometric(0.9, 0.99),
    LinearWarmup(POWER, 5),
    LinearDecay(1.0, 0.25, 10),
    LinearDecay(1.0),
    CosineDecay(1.0, 0.125),
    CosineDecay(1.0, 0.0, 10),
    StepDecay(1.0, 0.1, 3),
    Piecewise((3, 7), (POWER, Constant(1.0), HorizonAlpha(1.0))),
    Product((POWER, LinearDecay(1.0))),
    BiasCorrected(POWER, Constant(0.9), PolynomialTheta(1.0, 1.0)),
    BiasCorrected(Constant(0.1), Constant(0.9), Constant(0.999)),
    parse("1 - 0.9/t^0.5"),
    parse("1/T"),
    parse("1/T").with_horizon(4),
]
every_kind = pytest.mark.parametrize("schedule", EVERY_KIND, ids=str)
STEPS = np.arange(1, 41)


@pytest.mark.parametrize(
    ("schedule", "t", "value"),
    [
        (Constant(0.1), 7, 0.1),
        (Power(0.1, 0.5), 4, 0.05),
        (Power(0.1, 1.0), 8, 0.0125),
        (PolynomialTheta(1.0, 1.0), 1, 0.0),  # AdaGrad's theta_1
        (PolynomialTheta(1.0, 1.0), 4, 0.75),
        (PolynomialTheta(3.0, 0.5, 16), 2, 0.25),  # before K: 1 - 3/sqrt(16)
        (PolynomialTheta(3.0, 0.5, 16), 36, 0.5),
        (HorizonAlpha(3.0, 36), 5, 0.5),
        (HorizonTheta(1.0, 4), 3, 0.75),
        (Geometric(0.5, 0.5), 3, 0.0625),
        (LinearWarmup(Constant(1.0), 4), 1, 0.25),
        (LinearWarmup(Constant(1.0), 4), 9, 1.0),
        (LinearDecay(1.0, 0.0, 4), 2, 0.75),
        (LinearDecay(1.0, 0.5, 4), 99, 0.5),
        (CosineDecay(1.0, 0.0, 4), 1, 1.0),
        (CosineDecay(1.0, 0.0, 4), 3, 0.5),
        (StepDecay(1.0, 0.5, 3), 3, 1.0),
        (StepDecay(1.0, 0.5, 3), 4, 0.5),
        (Piecewise((3,), (Constant(1.0), Power(2.0, 1.0))), 3, 1.0),  # a boundary belongs to the piece before it
        (Piecewise((3,), (Constant(1.0), Power(2.0, 1.0))), 4, 0.5),
        (Product((Constant(3.0), Power(2.0, 1.0))), 4, 1.5),
        (BiasCorrected(Constant(1.0), Constant(0.5), Constant(0.75)), 1, 1.0),  # sqrt(1/4) / (1/2)
        (BiasCorrected(Constant(1.0), Constant(0.0), PolynomialTheta(0.75, 1.0)), 2, math.sqrt(1 - 0.25 * 0.625)),
    ],
)
def test_value_is_the_one_worked_out_by_hand(schedule, t, value):
    assert schedule(t) == pytest.approx(value, rel=1e-15, abs=1e-16)
    assert type(schedule(t)) is float


TORCH = [
    (CosineDecay(0.1, 0.01, 40), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40, 0.01)),
    (LinearDecay(0.1, 0.02, 30), lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.2, 30)),
    (StepDecay(0.1, 0.3, 7), lambda o: torch.optim.lr_scheduler.StepLR(o, 7, 0.3)),
    (Geometric(0.1 / 0.9, 0.9), lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9)),
    (LinearWarmup(Constant(0.1), 10), lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.1, 1.0, 9)),
    (
        Piecewise((10, 20), (Constant(0.1), Constant(0.05), Constant(0.025))),
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [10, 20], 0.5),
    ),
]


@pytest.mark.parametrize(("schedule", "scheduler"), TORCH, ids=lambda value: str(value)[:30])
def test_decays_follow_torch_schedulers(schedule, scheduler):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs, run = [], scheduler(optimizer)
    for _ in STEPS:
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        run.step()
    np.testing.assert_allclose(schedule(STEPS), theirs, rtol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 32, 33, 64, 65, 500])
def test_there_may_be_any_number_of_pieces(count):
    schedule = Piecewise(tuple(range(1, count)), tuple(Constant(i / 1024) for i in range(count)))  # piece i until i + 1
    t = np.arange(1, count + 10)
    staircase = np.minimum(t - 1, count - 1) / 1024
    np.testing.assert_array_equal(schedule(t), staircase)
    np.testing.assert_array_equal(schedule.complement(t), 1 - staircase)
    assert [schedule(int(one)) for one in t] == staircase.tolist()


@every_kind
def test_array_call_is_float64_and_equals_calls_one_by_one(schedule):
    schedule = schedule.with_horizon(40)
    together = schedule(STEPS)
    assert together.dtype == np.float64 and together.shape == STEPS.shape
    np.testing.assert_allclose(together, [schedule(int(t)) for t in STEPS], rtol=1e-14)
    np.testing.assert_array_equal(schedule(STEPS.reshape(5, 8)), together.reshape(5, 8))
    assert schedule(np.array([], dtype=int)).shape == (0,)


@every_kind
def test_value_semantics(schedule):
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert copy.deepcopy(schedule) == schedule and hash(copy.deepcopy(schedule)) == hash(schedule)
    assert schedule != Constant(0.123)
    with pytest.raises((AttributeError, TypeError)):
        schedule.kind_of_magic = 1


@every_kind
def test_cast_by_its_own_type_is_equal_as_horovod_needs(schedule):
    assert type(schedule)(schedule) == schedule
    assert not isinstance(schedule, Iterable)  # Horovod would take it apart


@every_kind
def test_round_trip_through_yaml(schedule):
    text = yaml.safe_dump(schedule.to_plain())
    assert schedule_from_plain(yaml.safe_load(text)) == schedule


@every_kind
def test_short_form_is_read_back_where_the_grammar_can_say_it(schedule):
    if isinstance(schedule, (StepDecay, Piecewise)) or "bias corrected" in str(schedule):
        assert "0.1" in str(schedule)
        return
    again = parse(str(schedule)).with_horizon(getattr(schedule, "horizon", None) or 40)
    np.testing.assert_allclose(again(STEPS), schedule.with_horizon(40)(STEPS), rtol=1e-14)


@pytest.mark.parametrize(
    ("schedule", "short"),
    [
        (Power(0.001, 0.5), "0.001/sqrt(t)"),
        (Power(-0.001, 1), "(-0.001)/t"),
        (PolynomialTheta(1, 1), "1 - 1/t"),
        (PolynomialTheta(3, 0.25, 8), "1 - 3/max(t, 8)^0.25"),
        (HorizonTheta(1), "1 - 1/T"),
        (Geometric(0.9, 0.99), "0.9*0.99^t"),
    ],
)
def test_short_form_is_the_formula(schedule, short):
    assert str(schedule) == short


@pytest.mark.parametrize(
    ("schedule", "t", "exact"),
    [
        (HorizonTheta(1.0, 10**17), 1, Fraction(1, 10**17)),  # theta_t itself rounds to 1
        (PolynomialTheta(0.5, 2.0), 10**9, Fraction(1, 2 * 10**18)),
        (parse("1 - 0.5/t^2"), 10**9, Fraction(1, 2 * 10**18)),
        (parse("max(0, 1 - 1/t^2)"), 10**9, Fraction(1, 10**18)),
        (parse("1 - 1/t^2 - 1/t^2"), 10**9, Fraction(2, 10**18)),
        (Piecewise((5,), (Constant(0.5), HorizonTheta(1.0, 10**17))), 6, Fraction(1, 10**17)),
        (Constant(0.75), 1, Fraction(1, 4)),
        (Power(0.5, 1.0), 2, Fraction(3, 4)),
    ],
)
def test_complement_does_not_cancel(schedule, t, exact):
    assert schedule.complement(t) == pytest.approx(float(exact), rel=1e-14, abs=0)
    assert schedule.complement(np.array([t]))[0] == schedule.complement(t)


@every_kind
def test_complement_is_one_minus_the_value(schedule):
    schedule = schedule.with_horizon(40)
    np.testing.assert_allclose(schedule.complement(STEPS), 1 - schedule(STEPS), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "schedule",
    [
        HorizonAlpha(1.0),
        HorizonTheta(1.0),
        LinearDecay(1.0),
        CosineDecay(1.0),
        parse("t/T"),
        LinearWarmup(HorizonAlpha(1.0), 3),
        Product((Constant(1.0), HorizonAlpha(1.0))),
        Piecewise((3,), (Constant(1.0), CosineDecay(1.0))),
        BiasCorrected(HorizonAlpha(1.0), Constant(0.9), HorizonTheta(1.0)),
    ],
    ids=str,
)
def test_horizon_must_be_bound_and_is_bound_once(schedule):
    assert schedule.needs_horizon
    for call in (schedule, schedule.complement):
        with pytest.raises(ConfigError, match="horizon T"):
            call(1)
    bound = schedule.with_horizon(10)
    assert not bound.needs_horizon and math.isfinite(bound(2))
    assert bound.with_horizon(99) == bound


def test_with_horizon_is_the_identity_where_t_alone_matters():
    assert POWER.with_horizon(10) is POWER and not POWER.needs_horizon


def test_bias_correction_is_torch_adam_said_as_a_schedule():
    # gradient 1 throughout: v_t = 1 - theta^t, m_t = 1 - beta^t, so torch's step is lr at every t
    schedule = BiasCorrected(Constant(0.1), Constant(0.9), Constant(0.999))
    m, v = 1 - 0.9**STEPS, 1 - 0.999**STEPS
    np.testing.assert_allclose(schedule(STEPS) * m / np.sqrt(v), 0.1, rtol=1e-12)


def test_bias_correction_starts_6_57_times_too_low():
    corrected = BiasCorrected(Constant(1.0), Constant(0.9), Constant(0.999))
    values = corrected(np.arange(1, 20000))
    assert 1 / values.min() == pytest.approx(6.57, abs=0.01)  # theory: C_0 for (0.9, 0.999)
    scheduled = BiasCorrected(Constant(1.0), Constant(0.9), parse("0.999 + 0*t"))
    np.testing.assert_allclose(scheduled(np.arange(1, 500)), values[:499], rtol=1e-11)


def test_running_product_over_more_than_one_block():
    schedule = BiasCorrected(Constant(1.0), Constant(0.0), PolynomialTheta(0.5, 2.0))
    t = 200_000  # prod (1 - 1/(2 i^2)) tends to sin(pi/sqrt 2) / (pi/sqrt 2), its tail is 1 + 1/(2 t)
    limit = math.sin(math.pi / math.sqrt(2)) / (math.pi / math.sqrt(2))
    assert schedule(t) == pytest.approx(math.sqrt(1 - limit * (1 + 0.5 / t)), rel=1e-9)


def test_arguments_become_plain_python_numbers():
    schedule = Power(np.float32(0.5), np.int64(1))
    assert (type(schedule.scale), type(schedule.exponent)) == (float, float)
    assert type(StepDecay(1, 0.5, np.int64(3)).every) is int
    assert LinearWarmup(0.1, 5).then == Constant(0.1)
    assert Product(["1/t", 2]).factors == (Expression("1/t"), Constant(2.0))


@pytest.mark.parametrize(
    ("data", "schedule"),
    [
        (1, Constant(1.0)),
        ("1e-3", Constant(0.001)),
        ("0.1/t", Expression("0.1/t")),
        ({"power": {"scale": "1e-3", "exponent": 1}}, Power(0.001, 1.0)),  # YAML 1.1 reads 1e-3 as text
        ({"piecewise": {"boundaries": [3], "pieces": [1, "1/t"]}}, Piecewise((3,), (Constant(1), Expression("1/t")))),
        ({"product": {"factors": [2, {"power": {"scale": 1, "exponent": 1}}]}}, Product((Constant(2), Power(1, 1)))),
    ],
)
def test_plain_data_is_read(data, schedule):
    assert schedule_from_plain(data) == schedule


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "A schedule is a number"),
        (True, "A schedule is a number"),
        ([], "A schedule is a number"),
        ({}, "A schedule is a number"),
        ({"powr": {}}, "Did you mean power?"),
        ({"power": 3}, "It takes scale, exponent"),
        ({"power": {"scale": 1}}, "missing exponent"),
        ({"power": {"scale": 1, "exponent": 1, "z": 1}}, "unknown z"),
        ({"power": {"scale": True, "exponent": 1}}, "must be a number"),
        ({"power": {"scale": None, "exponent": 1}}, "must be a number"),
        ({"power": {"scale": "1/t", "exponent": 1}}, "must be a number"),
        ({"power": {"scale": "x", "exponent": 1}}, "'x' is not known"),
        ({"linear_warmup": {"then": 1, "steps": 0}}, "whole number >= 1"),
        ({"step_decay": {"start": 1, "factor": 0.1, "every": 2.5}}, "whole number >= 1"),
        ({"horizon_alpha": {"alpha": 1, "horizon": -3}}, "whole number >= 1"),
        ({"piecewise": {"boundaries": 3, "pieces": [1, 2]}}, "must be a list"),
        ({"piecewise": {"boundaries": [3], "pieces": [1]}}, "n boundaries"),
        ({"piecewise": {"boundaries": [3, 3], "pieces": [1, 2, 3]}}, "in increasing order"),
        ({"product": {"factors": 2}}, "must be a list"),
        ({"expression": {"text": 5}}, "must be text"),
    ],
)
def test_wrong_plain_data_is_refused_with_a_reason(data, said):
    with pytest.raises(ConfigError) as caught:
        schedule_from_plain(data)
    assert said in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("schedule", "role", "first"),
    [
        (parse("0.1 - 0.01*t"), "alpha", 11),
        (parse("1/(t - 5)^2"), "alpha", 5),
        (parse("sqrt(3 - t)"), "alpha", 4),  # NaN
        (Constant(math.inf), "alpha", 1),
        (Geometric(0.9, 1.01), "beta", 11),  # 0.9 * 1.01^11 = 1.004
        (parse("0.5 - 0.1*t"), "beta", 6),
        (PolynomialTheta(1.5, 1.0), "theta", 1),
        (parse("1 - 1/2^t"), "theta", 54),  # rounds to 1
        (parse("2 - (t + 100)/T"), "theta", 1),
        (Piecewise((2_000_000,), (Constant(0.5), Constant(1.0))), "theta", 2_000_000),
    ],
    ids=str,
)
def test_domain_check_names_the_first_step_outside(schedule, role, first):
    with pytest.raises(ConfigError) as caught:
        check_training_domain(schedule, role, 3_000_000 if first > 10**6 else 1000)
    named = int(str(caught.value).split("at t = ")[1].split()[0].rstrip("."))
    assert named == first or (first > 10**6 and first < named < 1.001 * first)  # a grid beyond a million
    assert role in str(caught.value)


@pytest.mark.parametrize(
    ("schedule", "role"),
    [
        (Constant(0.0), "alpha"),
        (LinearDecay(1.0), "alpha"),  # exactly 0 after the last step
        (CosineDecay(1.0), "alpha"),
        (Geometric(0.9, 0.99), "beta"),
        (PolynomialTheta(1.0, 1.0), "theta"),  # theta_1 = 0 is AdaGrad's
        (HorizonTheta(1.0), "theta"),
    ],
    ids=str,
)
def test_domain_check_passes_what_training_can_follow(schedule, role):
    check_training_domain(schedule, role, 100_000)


def test_the_domain_is_checked_far_out():
    check_training_domain(parse("1 - 1/t"), "theta", 10**9)
    with pytest.raises(ConfigError, match="alpha"):
        check_training_domain(parse("1 - t/10^8"), "alpha", 10**9)
