"""Schedules that know T, judged for every T at once: against C_0 worked out for runs of growing length."""

from __future__ import annotations

import numpy as np
import pytest

from hvd_adam.algorithms import named
from hvd_adam.commands.check import framed
from hvd_adam.schedules import BiasCorrected, Constant, Piecewise
from hvd_adam.schedules import as_schedule as expression
from hvd_adam.theory.condition import check, check_algorithm
from hvd_adam.theory.growth import FamilyGrowth
from hvd_adam.theory.trees import complement_of, tree_of


def worst(alpha, theta, horizon, beta=0.9, corrected=True):
    """C_0 of a run of `horizon` steps, from the formulas alone: the largest chi_t / chi_j, t >= j, or chi_1 itself."""
    t = np.arange(1, horizon + 1, dtype=float)
    theta_t = np.broadcast_to(theta(t, horizon), t.shape)
    chi = np.broadcast_to(alpha(t, horizon), t.shape) / np.sqrt(1 - theta_t)
    if corrected:
        chi = chi * np.sqrt(-np.expm1(np.cumsum(np.log(theta_t)))) / (1 - beta**t)
    return float(max((chi / np.minimum.accumulate(chi)).max(), chi[0]))


@pytest.mark.parametrize(
    ("alpha", "theta", "in_numbers", "holds"),
    [
        ("1/sqrt(T)", "1 - 1/T", (lambda t, T: 1 / T**0.5, lambda t, T: 1 - 1 / T), False),
        ("0.1/T^0.25", "1 - 1/sqrt(T)", (lambda t, T: 0.1 / T**0.25, lambda t, T: 1 - 1 / T**0.5), False),
        ("0.1/sqrt(t)", "1 - 1/T", (lambda t, T: 0.1 / t**0.5, lambda t, T: 1 - 1 / T), True),
    ],
)
def test_a_correction_by_a_theta_that_knows_T_is_judged_as_T_grows(alpha, theta, in_numbers, holds):
    """1 - prod theta_i goes from 1/T to a constant: it is no factor of T alone, though no t is written in it."""
    grows = [worst(*in_numbers, horizon) for horizon in (10**3, 10**4, 10**5)]
    assert (grows[2] < 1.1 * grows[0]) is holds
    verdict = check(alpha=BiasCorrected(expression(alpha), 0.9, expression(theta)), theta=expression(theta), beta=0.9)
    assert verdict.holds is holds and not verdict.is_proved
    assert (3 in [clause.number for clause in verdict.failing]) is not holds


def test_theorem_17s_schedule_under_torchs_correction_is_not_called_proved():
    corrected = check_algorithm(framed(named("theorem17"), "torch"), 10**6)
    assert not corrected.holds and [clause.number for clause in corrected.failing] == [3]
    assert check_algorithm(named("theorem17"), 10**6).is_proved


@pytest.mark.parametrize(
    ("alpha", "theta", "in_numbers"),
    [
        (
            expression("1/sqrt(T)"),
            Piecewise((1000,), (Constant(0.999), expression("1 - 1/T"))),
            (lambda t, T: 1 / T**0.5, lambda t, T: np.where(t <= 1000, 0.999, 1 - 1 / T)),
        ),
        (
            Piecewise((1000,), (Constant(0.01), expression("1/sqrt(T)"))),
            expression("1 - 1/T"),
            (lambda t, T: np.where(t <= 1000, 0.01, 1 / T**0.5), lambda t, T: 1 - 1 / T),
        ),
    ],
)
def test_pieces_that_T_does_not_know_count_as_T_grows(alpha, theta, in_numbers):
    """They are few steps of one run, and another part of chi for every T."""
    grows = [worst(*in_numbers, horizon, corrected=False) for horizon in (10**4, 10**6)]
    assert grows[1] > 5 * grows[0]
    assert not check(alpha=alpha, theta=theta, beta=0.9).holds


def test_every_change_that_is_told_for_a_theta_that_knows_T_has_a_bounded_constant():
    told = check(alpha=BiasCorrected(Constant(0.1), 0.9, expression("1 - 1/T")), theta=expression("1 - 1/T"), beta=0.9)
    assert told.repair is not None and "(T)" not in told.repair.text and "T^" not in told.repair.text


@pytest.mark.parametrize(
    ("alpha", "theta"),
    [
        ("0.1*(log(t+1)-log(t+1))", "1-0.5/t"),
        ("0.1*(1/(1+1/t)-1+1/t-1/t^2+1/t^3)", "1-0.5/t"),
        ("0.1/sqrt(t)", "exp(-800*t)"),
    ],
)
def test_what_cancels_or_underflows_ends_in_a_verdict_and_is_not_proved_to_hold(alpha, theta):
    verdict = check(alpha=expression(alpha), theta=expression(theta), beta=0.9)
    assert not verdict.holds
    if "exp" in theta:
        assert 2 in [clause.number for clause in verdict.failing]  # theta falls from e^-800


def test_the_end_of_a_correction_that_T_decides_is_not_taken_for_1():
    """1 - prod (1 - 1/T^2) over T steps is about 1/T, and T alpha_T is then smaller by the root of it."""
    late = expression("1 - 1/T^2")
    growth = FamilyGrowth(tree_of(BiasCorrected(expression("1/sqrt(T)"), 0.9, late)), complement_of(tree_of(late)))
    assert growth.reach is None and growth.start is not None
    plain = FamilyGrowth(tree_of(expression("1/sqrt(T)")), complement_of(tree_of(late)))
    assert plain.reach is not None
