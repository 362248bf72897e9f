"""Problems with known answers: gradients are slopes, loops are the optimizer, tasks are the problems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from hvd_adam import algorithms
from hvd_adam.algorithms import Algorithm
from hvd_adam.errors import ConfigError
from hvd_adam.optim.generic_adam import GenericAdam
from hvd_adam.schedules import Constant, CosineDecay, PolynomialTheta, Power
from hvd_adam.tasks import get
from hvd_adam.theory import loops, problems
from hvd_adam.theory.loops import rates_of, run

ALL = [
    problems.Toy(d=3, sigma=4.0),
    problems.PseudoHuber(d=3, sigma=4.0),
    problems.Quadratic(spectrum=(1.0, 0.3), curved=True),
    problems.Counterexample(),
    problems.Counterexample(huber=True, start=3.0),
    problems.Reddi(),
    problems.ReddiCycle(),
]
MEMBERS = {
    "path": algorithms.path(0.5, lr=0.5, theta=0.99),
    "theorem 17": algorithms.theorem17(2.0, 3.0),
    "adamnc": algorithms.adamnc(0.3),
    "torch's adam": algorithms.adam(CosineDecay(0.1, 0.001), theta=0.99, eps=1e-3),
    "bias correction of schedules": algorithms.adam(Power(0.5, 0.5), theta=PolynomialTheta(0.9, 0.5), eps=0.0),
    "amsgrad": algorithms.amsgrad(Power(0.5, 0.5), theta=0.99),
}


def name(problem):
    return type(problem).__name__ + ("-huber" if getattr(problem, "huber", False) else "")


def stochastic_gradient(problem, x, u):
    """Written out per problem: the independent truth for the compiled laws."""
    match problem:
        case Given():
            return u
        case problems.Toy():
            return 2 * x + problem.a * np.sin(2 * x) + u
        case problems.PseudoHuber():
            return 2 * x / np.sqrt(1 + (x / problem.delta) ** 2) + problem.a * np.sin(2 * x) + u
        case problems.Quadratic():
            return np.array(problem.spectrum) * x + u
        case problems.Counterexample(huber=True):
            return 2 * u * np.clip(x, -1, 1)
        case problems.Counterexample():
            return 2 * u * x
    return u


def draws_of(problem, seed, steps, batch):
    """The draws that `run` uses, block by block."""
    rng = np.random.Generator(np.random.SFC64(loops.seed_for("samples", seed)))
    firsts = range(1, steps + 1, loops.BLOCK)
    return np.concatenate([problem.draws(rng, t, min(loops.BLOCK, steps + 1 - t), batch) for t in firsts])


@dataclass(frozen=True)
class Given(problems.Toy):
    """Gradients that do not depend on x."""

    law: ClassVar[int] = problems.LINEAR
    box: ClassVar[tuple[float, float]] = (-2.0, 2.0)


def optimizer_path(problem, member, draws, batch):
    """x_{t+1} of GenericAdam, fed g(x_t, u_t), and the mean of the exact gradient's norms."""
    x = torch.full((problem.d,), problem.start, dtype=torch.float64, requires_grad=True)
    adam = GenericAdam([x], **member.optimizer_arguments(batch=batch, dim=problem.d, steps=len(draws)))
    found, norms = np.empty(draws.shape), []
    for t, u in enumerate(draws):
        point = x.detach().numpy()
        exact = stochastic_gradient(problem, point, np.full(problem.d, problem.mean))
        norms.append(np.linalg.norm(exact))
        x.grad = torch.from_numpy(np.array(stochastic_gradient(problem, point, u)))
        adam.step()
        with torch.no_grad():
            x.clamp_(*problem.box)
        found[t] = point
    return found, np.mean(norms)


@pytest.mark.parametrize("which", MEMBERS)
def test_the_compiled_loop_equals_the_optimizer_fed_the_same_gradients_over_ten_thousand_steps(which):
    member, problem, at = MEMBERS[which], Given(d=3, start=0.5), [1, 10, 1000, 9999]
    expected, _ = optimizer_path(problem, member, draws_of(problem, 7, 10_000, 4), 4)
    found = run(problem, member, 10_000, [7], batch=4, at=at)
    np.testing.assert_allclose(found.x[:, 0], expected[[t - 1 for t in found.at]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("problem", ALL, ids=name)
def test_the_compiled_loop_follows_the_optimizer_on_each_problem(problem):
    steps = 300 if isinstance(problem, problems.Counterexample) else 5000  # multiplicative noise amplifies rounding
    member = MEMBERS["amsgrad"]
    expected, norm = optimizer_path(problem, member, draws_of(problem, 7, steps, 4), 4)
    found = run(problem, member, steps, [7], batch=4, at=[100])
    np.testing.assert_allclose(found.x[:, 0], expected[[99, steps - 1]], rtol=1e-12, atol=1e-12)
    assert found.mean_norm[-1, 0] == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize("problem", ALL, ids=name)
def test_the_gradient_is_the_slope_of_the_objective(problem):
    for x in np.random.default_rng(0).uniform(-0.99, 3.0, (20, problem.d)):
        gradient = np.broadcast_to(stochastic_gradient(problem, x, np.full(problem.d, problem.mean)), x.shape)
        for i, h in enumerate(np.eye(problem.d) * 1e-6):
            slope = (problem.objective(x + h) - problem.objective(x - h)) / 2e-6
            assert slope == pytest.approx(gradient[i], rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("problem", ALL[:6], ids=name)
@pytest.mark.parametrize("batch", [1, 16])
def test_draws_have_the_mean_and_the_variance_that_the_batch_leaves(problem, batch):
    draws = problem.draws(np.random.default_rng(0), 1, 200_000, batch)
    if isinstance(problem, problems.Counterexample | problems.Reddi):
        variance = problem.p * (1 - problem.p) * (problem.high - problem.low) ** 2
    else:
        variance = problem.sigma**2
    error = np.sqrt(variance / batch / 200_000)
    assert abs(draws.mean() - problem.mean) < 4 * error
    assert draws.var(axis=0).sum() == pytest.approx(variance / batch, rel=0.03)


def test_the_optimum_of_each_counterexample_is_where_the_paper_says():
    x = np.linspace(-1, 1, 201)[:, None]
    assert x[np.argmin(problems.Reddi().objective(x))] == x[np.argmin(problems.ReddiCycle().objective(x))] == -1
    assert x[np.argmin(problems.Counterexample().objective(x))] == 0
    assert problems.Counterexample().objective(np.array([2.0])) == pytest.approx(4 / 22)
    assert problems.Reddi().mean == pytest.approx(0.2)


def test_a_run_depends_on_its_seed_alone():
    member, toy = MEMBERS["path"], problems.Toy(d=2)
    together = run(toy, member, 5000, [3, 4, 5], threads=2)
    np.testing.assert_array_equal(together.x[-1, 1], run(toy, member, 5000, [4]).x[-1, 0])
    np.testing.assert_array_equal(together.x[-1, 1], run(toy, member, 5000, [4], at=[17, 4096]).x[-1, 0])
    assert not np.array_equal(together.x[-1, 0], together.x[-1, 1])


def test_zero_over_zero_counts_as_zero_in_the_loop():
    still = Algorithm("still", Constant(0.1), Constant(0.0), Constant(0.9), v0=0.0)
    assert run(problems.Counterexample(start=0.0), still, 10, [0]).x[-1, 0, 0] == 0.0


def test_bias_correction_in_blocks_follows_the_products():
    member, products = algorithms.adam(0.1, 0.9, PolynomialTheta(0.5, 1.0), eps=1e-2), np.ones(2)
    parts = [rates_of(member, np.arange(1.0, 4.0), products), rates_of(member, np.arange(4.0, 9.0), products)]
    theta = np.cumprod(1 - 0.5 / np.arange(1.0, 9.0))
    alpha = 0.1 * np.sqrt(1 - theta) / (1 - 0.9 ** np.arange(1.0, 9.0))
    np.testing.assert_allclose(np.concatenate([p[0] for p in parts]), alpha, rtol=1e-13)
    np.testing.assert_allclose(np.concatenate([p[3] for p in parts]), 1e-2 * np.sqrt(1 - theta), rtol=1e-13)


TASKS = {
    "counterexample": (dict(start=0.7), problems.Counterexample(start=0.7)),
    "counterexample huber": (dict(huber=True, start=3.0), problems.Counterexample(huber=True, start=3.0)),
    "reddi": ({}, problems.Reddi()),
    "reddi-cycle": (dict(c=3.0), problems.ReddiCycle(c=3.0)),
    "toy": (dict(d=3, sigma=2.0), problems.Toy(d=3, sigma=2.0)),
    "pseudo-huber": (dict(d=3, delta=6.0), problems.PseudoHuber(d=3, delta=6.0)),
    "quadratic": (dict(spectrum=[1.0, 0.2]), problems.Quadratic(spectrum=(1.0, 0.2))),
}


@pytest.mark.parametrize("which", TASKS)
def test_a_task_has_the_objective_gradient_and_start_of_its_problem(which):
    options, problem = TASKS[which]
    task = get(which.split()[0], **options)
    model = task.model().double()
    assert model.x.tolist() == pytest.approx([problem.start] * problem.d, rel=1e-7)
    with torch.no_grad():
        model.x.copy_(torch.linspace(-0.9, 0.4, problem.d, dtype=torch.float64))
    x = model.x.detach().numpy().copy()
    draws = task.batch(np.arange(5), torch.Generator(), True)
    task.loss(model, draws).backward()
    expected = stochastic_gradient(problem, x, draws[0].numpy().mean(axis=0))
    np.testing.assert_allclose(model.x.grad.numpy(), expected, rtol=1e-12)
    sums = task.measures(model, task.batch(np.arange(2), torch.Generator(), False))
    assert sums["objective"].item() / 2 == pytest.approx(float(problem.objective(x)), rel=1e-12)
    mean = np.broadcast_to(stochastic_gradient(problem, x, np.full(problem.d, problem.mean)), x.shape)
    assert sums["gradient_norm"].item() / 2 == pytest.approx(float(np.linalg.norm(mean)), rel=1e-12)


@pytest.mark.parametrize(("which", "share", "high"), [("counterexample", 1 / 11, 5.5), ("reddi", 0.01, 1010.0)])
def test_the_draws_of_a_task_have_the_shares_of_the_paper(which, share, high):
    draws = get(which).batch(np.arange(10**9, 10**9 + 200_000), torch.Generator(), True)[0]
    assert (draws == high).double().mean().item() == pytest.approx(share, abs=4 * np.sqrt(share / 200_000))


def test_the_point_of_reddi_never_leaves_its_box():
    task = get("reddi", start=1.0)
    model = task.model().double()
    with torch.no_grad():
        model.x += 5.0
    assert task.measures(model, task.batch(np.arange(1), torch.Generator(), False))["x"].item() == 1.0


@pytest.mark.parametrize(
    ("which", "options", "said"),
    [
        ("reddi", {"start": 2}, "start: 2"),
        ("reddi-cycle", {"c": 2}, "c: 2"),
        ("counterexample", {"huber": 1}, "huber: 1"),
    ],
)
def test_options_out_of_range_are_refused(which, options, said):
    with pytest.raises(ConfigError, match=said):
        get(which, **options)
