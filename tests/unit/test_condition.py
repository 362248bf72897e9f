"""The sufficient condition: the polynomial family and the named members against Corollary 10 and section 3."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hvd_adam.algorithms import MEMBERS, named
from hvd_adam.schedules import LinearWarmup, PolynomialTheta, Power, Product
from hvd_adam.schedules.expressions import parse
from hvd_adam.theory.condition import check, check_algorithm
from hvd_adam.theory.report import headline
from hvd_adam.theory.verdict import State


@pytest.mark.parametrize(
    ("r", "s", "holds"),
    [
        (0.5, 0.50, True),  # r <= 2 s, s < 1
        (1.0, 0.50, True),  # on the edge: r = 2 s
        (0.7, 0.35, True),  # on the edge, in decimals that floats do not hold
        (0.1 + 0.2, 0.15, False),  # 0.30000000000000004 is more than 2 * 0.15
        (1.0, 0.49, False),  # chi_t = t**(r/2 - s) grows without bound: clause 3
        (0.51, 0.25, False),
        (0.5, 0.99, True),
        (0.5, 1.00, False),  # alpha_T T does not grow: clause 4
        (0.0, 0.50, False),  # constant theta: clause 4's ratio stays at sqrt(1 - theta) / (1 - s)
    ],
)
def test_polynomial_family_holds_exactly_where_corollary_10_says(r, s, holds):
    verdict = check(alpha=Power(1.0, s), theta=PolynomialTheta(0.5, r), beta=0.9)
    assert verdict.holds is holds
    assert verdict.is_proved


@pytest.mark.parametrize(
    ("r", "s", "rate"),
    [
        (0.4, 0.5, "T^-0.1"),  # r/2 + s < 1: T^(-r/4)
        (1.0, 0.5, "T^-0.25 (log T)^0.5"),  # r/2 + s = 1
        (1.0, 0.8, "T^-0.1"),  # r/2 + s > 1: T^(-(1-s)/2)
    ],
)
def test_rate_is_that_of_corollary_10(r, s, rate):
    assert check(alpha=Power(1.0, s), theta=PolynomialTheta(0.5, r), beta=0.9).rate == rate


@pytest.mark.parametrize(
    "theta",
    [  # each is 0 at t = 1, which it reaches, however the limit lies
        "1 - 1/sqrt(t)",
        "1 - sqrt(t)/t",
        "1 - t/t^2",
        "1 - t^2/t^3",
        "1 - (t+1)/(2*t^1.5)",
        "1 - 0.5*max(2*t, log(t+2)/t)/t",
    ],
)
def test_a_theta_that_begins_at_0_breaks_clause_2_however_it_is_written(theta):
    verdict = check(alpha=parse("0.1/sqrt(t)"), theta=parse(theta), beta=0.9)
    assert not verdict.holds
    assert 2 in [clause.number for clause in verdict.failing]


def test_torchs_adam_fails_at_clause_4_alone_with_its_floor_and_constant():
    verdict = check_algorithm(named("adam"), 10**5)
    assert [c.number for c in verdict.failing] == [4]
    assert verdict.limit == pytest.approx(math.sqrt(0.001))
    t = np.arange(1, 200_000)
    alpha = np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    assert verdict.constant.value == pytest.approx(np.max(alpha / np.minimum.accumulate(alpha)), rel=1e-9)
    assert verdict.constant.value == pytest.approx(6.57, abs=0.005)


@pytest.mark.parametrize("s", [0.0, 0.25, 0.5, 0.9])
def test_floor_of_constant_theta_is_that_of_corollary_7(s):
    verdict = check(alpha=Power(0.1, s), theta=0.99, beta=0.9)
    assert verdict.limit == pytest.approx(0.1 / (1 - s))


def test_theorem_17_holds_as_a_family_with_ratio_sqrt_of_theta_over_T():
    verdict = check_algorithm(named("theorem17", alpha=4.0, theta=2.0), 10**6)
    assert verdict.holds and verdict.is_proved and verdict.family
    assert verdict.bound.ratio == pytest.approx(math.sqrt(2.0 / 10**6), rel=1e-9)
    assert verdict.rate == "T^-0.25"


def test_theta_1_of_zero_fails_at_the_first_step_alone_and_K_2_cures_it():
    verdict = check_algorithm(named("adagrad"), 1000)
    clause = verdict.failing[0]
    assert (clause.number, clause.first, clause.resumes) == (2, 1, 2)
    assert verdict.repair.changes == (("theta_t", "1 - 1/max(t, 2)"),)
    assert check(alpha="0.01/sqrt(t)", beta=0, theta="1 - 1/max(t, 2)").holds


def test_warmup_holds_with_a_constant_of_its_length_and_a_warning():
    verdict = check(alpha=LinearWarmup(Power(0.1, 0.5), 400), theta=PolynomialTheta(0.5, 1.0), beta=0.9)
    assert verdict.holds and verdict.is_proved
    assert verdict.constant.value == pytest.approx(400.0)  # chi_t rises from 1/400 of a constant
    assert any("C_0^4" in note for note in verdict.notes)


def test_what_only_numbers_support_is_never_called_proved():
    """log log log leaves the algebra; the ratio falls like T^-0.5 up to it."""
    verdict = check(alpha="0.1/(sqrt(t)*log(log(log(t + 20))))", beta=0.9, theta="1 - 0.5/t")
    clause = verdict.clauses[3]
    assert clause.holds and clause.evidence.kind == "numeric" and clause.evidence.far >= 10**12
    assert verdict.holds and not verdict.is_proved
    assert headline(verdict).startswith("HOLDS AS FAR AS LOOKED")


@pytest.mark.parametrize(
    "alpha",
    ["0.1/(t*log(log(log(t + 20))))", "0.1*(1 + cos(t))/sqrt(t)", "0.1*t^(-0.5 + 0.1*cos(t))"],
)
def test_numbers_alone_never_make_a_violation(alpha):
    """Each of these fails clause 3 or 4, and no step of theirs shows it."""
    states = {c.state for c in check(alpha=alpha, beta=0.9, theta="1 - 0.5/t").clauses if c.evidence.kind == "numeric"}
    assert State.UNDECIDED in states and State.VIOLATED not in states


@pytest.mark.parametrize(
    ("alpha", "beta", "theta", "changes"),
    [
        ("0.1/sqrt(t)", 0.9, 0.999, {"theta_t": "1 - 0.001/sqrt(t)"}),
        (Power(0.1, 0.35), 0.9, PolynomialTheta(0.5, 0.71), {"theta_t": "1 - 0.5/t^0.7"}),  # r <= 2 s
        (Power(0.1, 1.0), 0.9, PolynomialTheta(0.5, 1.0), {"alpha_t": "0.1/sqrt(t)"}),  # s < 1
        ("0.1/sqrt(t)", "1 - 1/(t + 1)", "1 - 0.5/t", {"beta_t": "max(0, min(1 - 1/(t + 1), 0.99))"}),
        ("0.1/sqrt(t)", 0.9, "1 - 2/t", {"theta_t": "1 - 2/max(t, 3)"}),
    ],
)
def test_the_change_is_the_smallest_that_passes_and_passes_when_it_is_made(alpha, beta, theta, changes):
    verdict = check(alpha=alpha, beta=beta, theta=theta)
    assert dict(verdict.repair.changes) == changes
    made = {"alpha": alpha, "beta": beta, "theta": theta, **{name[:-2]: text for name, text in changes.items()}}
    again = check(**made)
    assert again.holds and again.is_proved


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_that_fails_is_told_a_change(name):
    verdict = check_algorithm(named(name), 1000)
    assert verdict.holds or verdict.repair is not None


@pytest.mark.parametrize(
    ("alpha", "beta", "clause"),
    [("0.1/sqrt(t)", "0.5*t/10^9", 1), ("0.1/sqrt(t) - 10^(-7)", 0.9, 3), ("0.1/sqrt(t)", "1 - 1/log(t + 2)", 1)],
)
def test_a_failure_beyond_every_step_that_is_looked_at_is_found_by_its_limit(alpha, beta, clause):
    found = check(alpha=alpha, beta=beta, theta="1 - 0.5/t").clauses[clause - 1]
    assert found.state is State.VIOLATED and "limit" in found.evidence.text


@pytest.mark.parametrize(
    ("alpha", "beta", "theta"),
    [("-t", "--(t-T)", "--T"), ("min(0, t)^t", 0.9, "0.1/sqrt(t)"), ("0.1/sqrt(t)", 0.9, "T"), ("0*t", 0.9, 0.9)],
)
@pytest.mark.parametrize("steps", [1, 7])
def test_runs_of_a_few_steps_and_nonsense_end_in_a_verdict(alpha, beta, theta, steps):
    assert check(alpha=alpha, beta=beta, theta=theta, steps=steps).state is State.VIOLATED


def test_exponents_add_up_as_the_decimals_that_were_written():
    """0.7 + 0.1 is less than 0.8 in float64, and r = 1.6 would be more than 2 s."""
    for alpha in ("0.1/(t^0.7*t^0.1)", Product((Power(0.1, 0.7), Power(1.0, 0.1)))):
        assert check(alpha=alpha, beta=0.9, theta=PolynomialTheta(0.5, 1.6)).holds
        assert not check(alpha=alpha, beta=0.9, theta=PolynomialTheta(0.5, 1.6000001)).holds
