"""Schedules against their formulas, against torch's LR schedulers, and through plain data."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from hvd_adam.algorithms import MEMBERS, named
from hvd_adam.errors import ConfigError
from hvd_adam.expressions import parse
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
    Schedule,
    StepDecay,
    check_training_domain,
    schedule_from_plain,
)

TABLE: list[tuple[Schedule, list[int], list[float]]] = [
    (Constant(0.1), [1, 10**9], [0.1, 0.1]),
    (Power(0.1, 0.5), [1, 4, 100], [0.1, 0.05, 0.01]),
    (PolynomialTheta(1.0, 1.0), [1, 2, 10], [0.0, 0.5, 0.9]),
    (PolynomialTheta(0.9, 1.0, 3), [1, 2, 3, 9], [0.7, 0.7, 0.7, 0.9]),
    (HorizonAlpha(2.0, 16), [1, 16], [0.5, 0.5]),
    (HorizonTheta(2.0, 16), [1, 16], [0.875, 0.875]),
    (Geometric(0.9, 0.5), [1, 2], [0.45, 0.225]),
    (LinearWarmup(Constant(1.0), 4), [1, 2, 4, 5], [0.25, 0.5, 1.0, 1.0]),
    (LinearDecay(1.0, 0.0, 4), [1, 3, 5, 9], [1.0, 0.5, 0.0, 0.0]),
    (CosineDecay(1.0, 0.0, 4), [1, 3, 5], [1.0, 0.5, 0.0]),
    (StepDecay(1.0, 0.1, 3), [1, 3, 4, 7], [1.0, 1.0, 0.1, 0.01]),
    (Piecewise((3,), (Constant(1.0), Power(1.0, 1.0))), [3, 4], [1.0, 0.25]),
    (Product((Constant(2.0), Power(1.0, 1.0))), [1, 4], [2.0, 0.5]),
    (parse("1 - 0.9/t^0.5"), [1, 9], [0.1, 0.7]),
    (parse("0.1/sqrt(t)"), [1, 4], [0.1, 0.05]),
    (parse("-2^2 + min(t, 3)*max(1, 2) - -1"), [1, 5], [-1.0, 3.0]),
    (parse("2^3^2"), [1], [512.0]),
    (parse("cos(pi*t) + exp(0) + log(1)"), [1, 2], [0.0, 2.0]),
    (parse("1/sqrt(T)").with_horizon(100), [1], [0.1]),
]


@pytest.mark.parametrize(("schedule", "steps", "values"), TABLE)
def test_values(schedule: Schedule, steps: list[int], values: list[float]) -> None:
    assert schedule(np.array(steps)) == pytest.approx(np.array(values), abs=1e-15)
    alone = schedule(steps[-1])
    assert isinstance(alone, float) and alone == pytest.approx(values[-1], abs=1e-15)


@pytest.mark.parametrize("schedule", [row[0] for row in TABLE])
def test_each_says_itself_as_plain_data(schedule: Schedule) -> None:
    plain = yaml.safe_load(yaml.safe_dump(schedule.to_plain()))
    assert schedule_from_plain(plain) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert hash(schedule) == hash(pickle.loads(pickle.dumps(schedule)))


def follow_torch(make: Any, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, seen = make(optimizer), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (StepDecay(1.0, 0.5, 3), lambda o: torch.optim.lr_scheduler.StepLR(o, 3, gamma=0.5)),
        (CosineDecay(1.0, 0.1, 8), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 8, eta_min=0.1)),
        (LinearDecay(1.0, 0.2, 8), lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.2, 8)),
    ],
)
def test_the_tth_step_uses_what_torchs_scheduler_would(schedule: Schedule, make: Any) -> None:
    assert schedule(np.arange(1, 9)) == pytest.approx(np.array(follow_torch(make, 8)), rel=1e-12)


def test_bias_correction_said_as_a_schedule_starts_6_57_times_too_low_and_ends_at_1() -> None:
    corrected = BiasCorrected(Constant(1.0), Constant(0.9), Constant(0.999))
    assert corrected(1) == pytest.approx(math.sqrt(0.001) / 0.1)
    values = corrected(np.arange(1, 20000))
    assert 1 / values.min() == pytest.approx(6.57, abs=0.01)  # theory: C_0 for (0.9, 0.999)
    scheduled = BiasCorrected(Constant(1.0), Constant(0.9), parse("0.999 + 0*t"))
    assert scheduled(np.arange(1, 500)) == pytest.approx(corrected(np.arange(1, 500)), rel=1e-11)


@pytest.mark.parametrize(
    ("schedule", "exact"),
    [(PolynomialTheta(0.9, 1.0), 0.9e-12), (parse("1 - 0.9/t"), 0.9e-12), (HorizonTheta(1.0, 10**12), 1e-12)],
)
def test_the_complement_does_not_cancel(schedule: Schedule, exact: float) -> None:
    assert schedule.complement(10**12) == pytest.approx(exact, rel=1e-14)


def test_a_horizon_must_be_known() -> None:
    assert HorizonAlpha(1.0).needs_horizon and parse("1/T").needs_horizon
    with pytest.raises(ConfigError, match="horizon T"):
        LinearWarmup(HorizonAlpha(1.0), 3)(1)
    assert LinearWarmup(HorizonAlpha(1.0), 3).with_horizon(4)(3) == 0.5


@pytest.mark.parametrize(
    ("text", "role", "where"),
    [
        ("1 - t/100", "alpha", "t = 101"),
        ("1/(t-5)", "alpha", "t = 1"),
        ("1/(5-t)^2", "alpha", "t = 5"),
        ("t/10", "theta", "t = 10"),
        ("log(t) - 0.1", "beta", "t = 1"),
    ],
)
def test_the_first_step_outside_the_domain_is_named(text: str, role: str, where: str) -> None:
    with pytest.raises(ConfigError, match=where):
        check_training_domain(parse(text), role, 1000)


def test_the_domain_is_checked_far_out() -> None:
    check_training_domain(parse("1 - 1/t"), "theta", 10**9)
    with pytest.raises(ConfigError, match="alpha"):
        check_training_domain(parse("1 - t/10^8"), "alpha", 10**9)


FAULTS = [
    ("1/", 3, "the end stands where a value"),
    ("foo(t)", 1, "'foo' is not known"),
    ("sqr(t)", 1, "did you mean sqrt"),
    ("1 $ t", 3, "'$' is no part"),
    ("sqrt(t, 1)", 10, "sqrt has 2 arguments"),
    ("min(t)", 6, "min has 1 argument"),
    ("t.real", 2, "'.' is no part"),
    ("1 2", 3, "'2' is not expected"),
    ("(t", 3, "')' is expected"),
    ("", 1, "the end stands where"),
    ("__import__('os')", 1, "'__import__' is not known"),
]


@pytest.mark.parametrize(("text", "place", "found"), FAULTS)
def test_a_fault_is_pointed_at(text: str, place: int, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    message = str(caught.value)
    assert f"at character {place}:" in message and found in message
    excerpt, caret = message.splitlines()[1:3]
    assert caret.index("^") == 4 + place - 1 and excerpt.strip() == text.strip()


@pytest.mark.parametrize(
    "text", ["(" * 10_000 + "t" + ")" * 10_000, "-" * 10_000 + "t", "1+" * 5_000_000 + "1", "(" * 400]
)
def test_long_and_deep_texts_are_refused_at_once(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


@pytest.mark.parametrize(
    "data", [None, True, [1], {"power": {"scale": 1}}, {"power": {"scale": "x", "exponent": 1}}, {"no": {}}]
)
def test_other_data_is_no_schedule(data: Any) -> None:
    with pytest.raises(ConfigError):
        schedule_from_plain(data)


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_can_be_trained_with(name: str) -> None:
    member = named(name)
    for role in ("alpha", "beta", "theta"):
        check_training_domain(getattr(member, role).with_horizon(1000), role, 1000)


def test_the_path_runs_from_adam_to_adaema() -> None:
    assert named("path", r=0.0, theta=0.99).theta(50) == pytest.approx(0.99)
    assert named("path", r=1.0, theta=0.99).theta(50) == pytest.approx(1 - 1 / 50)


def test_v0_of_theorem_17_is_one_over_s_d() -> None:
    assert named("theorem17").optimizer_arguments(batch=8, dim=5, steps=100)["v0"] == 1 / 40


def test_unknown_members_and_arguments_list_the_known() -> None:
    with pytest.raises(ConfigError, match="adaema"):
        named("adamx")
    with pytest.raises(ConfigError, match="it takes lr"):
        named("adagrad", rate=1)
