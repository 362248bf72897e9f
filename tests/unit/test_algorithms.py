"""The named members against the paper's table (JMLR 23(229), p. 11-14)."""

import dataclasses
import math

import numpy as np
import pytest

from hvd_adam.algorithms import MEMBERS, Algorithm, adam, amsgrad, named, path, polynomial, theorem17
from hvd_adam.errors import ConfigError
from hvd_adam.schedules import Constant, Schedule, check_training_domain

T = 400
t = np.arange(1, T + 1, dtype=float)
ONES = np.ones(T)


@pytest.mark.parametrize(
    ("name", "arguments", "alpha", "beta", "theta"),
    [
        ("adagrad", {"lr": 0.5}, 0.5 / np.sqrt(t), 0 * t, 1 - 1 / t),
        ("adaema", {"lr": 0.5, "beta": 0.8}, 0.5 / np.sqrt(t), 0.8 * ONES, 1 - 1 / t),
        ("adamnc", {"lr": 0.5, "beta": 0.8, "decay": 0.9}, 0.5 / np.sqrt(t), 0.8 * 0.9**t, 1 - 1 / t),
        ("rmsprop", {"lr": 0.5, "alpha": 0.7}, 0.5 / np.sqrt(t), 0 * t, 1 - 0.7 / t),
        ("adam", {"lr": 0.5, "beta": 0.8, "theta": 0.99}, 0.5 * ONES, 0.8 * ONES, 0.99 * ONES),
        ("adam", {"lr": "0.5/sqrt(t)"}, 0.5 / np.sqrt(t), 0.9 * ONES, 0.999 * ONES),
        ("path", {"r": 0.5, "theta": 0.99, "lr": 1.0}, 1 / np.sqrt(t), 0.9 * ONES, 1 - (0.495 + 0.01) / np.sqrt(t)),
        ("polynomial", {"lr": 1.0, "s": 0.25, "alpha": 3.0, "r": 0.5, "start": 16},
         t**-0.25, 0.9 * ONES, 1 - 3 / np.sqrt(np.maximum(t, 16))),
        ("theorem17", {"alpha": 2.0, "theta": 3.0, "beta": 0.5},
         2 / math.sqrt(T) * ONES, 0.5 * ONES, (1 - 3 / T) * ONES),
    ],
)  # fmt: skip
def test_member_has_the_schedules_of_the_table(name, arguments, alpha, beta, theta):
    member = named(name, **arguments)
    for role, expected in (("alpha", alpha), ("beta", beta), ("theta", theta)):
        values = getattr(member, role).with_horizon(T)(t)
        np.testing.assert_allclose(values, expected, rtol=1e-13, atol=1e-15, err_msg=role)


@pytest.mark.parametrize(("r", "same"), [(0.0, Constant(0.999)), (1.0, named("adaema").theta)])
def test_path_runs_from_adam_to_adaema(r, same):
    np.testing.assert_allclose(path(r=r).theta(t), same(t), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ["adagrad", "adaema", "adamnc", "rmsprop", "path", "polynomial", "theorem17"])
def test_members_of_the_paper_keep_epsilon_in_v0_and_correct_nothing(name):
    member = named(name)
    assert (member.eps, member.eps_in, member.bias_correction, member.weight_decay) == (0.0, "v0", False, 0.0)


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("adam", {}),
        ("adamw", {"weight_decay": 0.01, "decoupled_weight_decay": True}),
        ("amsgrad", {"amsgrad": True}),
    ],
)
def test_members_of_torch_have_torch_defaults(name, differs):
    expected = {
        "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "eps_in": "denominator", "v0": 0.0, "bias_correction": True,
        "weight_decay": 0.0, "decoupled_weight_decay": False, "amsgrad": False,
    }  # fmt: skip
    assert named(name).optimizer_arguments(batch=64, dim=10, steps=100) == {**expected, **differs}


def test_theorem17_binds_horizon_batch_and_dimension():
    arguments = theorem17(alpha=2.0, theta=4.0).optimizer_arguments(batch=8, dim=5, steps=100)
    assert arguments["v0"] == 1 / 40
    assert arguments["lr"](1) == 0.2 and arguments["betas"][1](1) == 0.96


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_is_a_value_in_the_domain_of_training(name):
    member = named(name)
    assert member == named(name) and hash(member) == hash(named(name)) and member.name == name
    for role in ("alpha", "beta", "theta"):
        schedule = getattr(member, role)
        assert isinstance(schedule, Schedule)
        check_training_domain(schedule, role, 5000)
    with pytest.raises(dataclasses.FrozenInstanceError):
        member.eps = 1.0


def test_members_are_those_that_the_paper_names():
    wanted = "adam adamw amsgrad adagrad adaema adamnc rmsprop path polynomial theorem17"
    assert set(MEMBERS) == set(wanted.split())
    assert isinstance(adam(), Algorithm) and amsgrad().amsgrad and polynomial().theta(1) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("adm", {}, "Did you mean adam?"),
        ("zzz", {}, "adamnc, rmsprop, path"),
        ("adam", {"momentum": 1}, "It has no such argument"),
        ("adam", {"momentum": 1}, "lr, beta, theta, eps"),
        ("path", {"lr": "0.1/t"}, "must be a number"),
        ("adam", {"lr": "0.1/x"}, "'x' is not known"),
        ("path", {"r": 2}, "r lies in [0, 1]"),
        ("path", {"r": "x"}, "r lies in [0, 1]"),
    ],
)
def test_wrong_names_and_arguments_are_refused_with_a_reason(name, arguments, said):
    with pytest.raises(ConfigError) as caught:
        named(name, **arguments)
    assert said in str(caught.value) and caught.value.exit_code == 2
