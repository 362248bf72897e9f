"""The bounds of Theorems 2 and 17 against 50 digits, their exponents, and 10,000 runs that must lie below each."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from hvd_adam.errors import ConfigError
from hvd_adam.theory import rates, theorem2, theorem17

SETS = 1000
RUNS = 10_000


def spread(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """Log-uniform numbers."""
    return np.exp(rng.uniform(np.log(low), np.log(high), SETS))


def problems(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "L": spread(rng, 1e-3, 1e4),
        "G": spread(rng, 1e-3, 1e4),
        "gap": spread(rng, 1e-3, 1e4),
        "d": np.floor(spread(rng, 1, 1e9)),
        "beta": np.where(rng.random(SETS) < 0.05, 0.0, rng.uniform(0, 0.99, SETS)),
    }


def digits50_theorem2(L, G, gap, d, eps, beta, theta_1, theta_prime, C_0, chi_1, thetas):  # type: ignore[no-untyped-def]
    """Section 4 of the notes on the paper, written again in 50 digits."""
    one = mpf(1)
    product = one
    for theta in thetas:
        if theta < theta_prime:
            product *= mpf(theta) / theta_prime
    s1 = mpmath.sqrt(product)
    gamma = beta * beta / theta_prime
    u = one - mpmath.sqrt(gamma)
    bracket = C_0**2 * chi_1 * L / (product * u**2)
    bracket += 2 * G * (beta / (one - beta) / mpmath.sqrt(product * (one - gamma) * theta_1) + 1) ** 2
    c3 = C_0 * bracket / (s1 * u)
    big = mpmath.sqrt(G * G + eps * d)
    prime = 2 * C_0**2 * c3 * d * big / ((one - beta) * theta_1)
    c = 2 * C_0 * big * (gap + c3 * C_0 * d * chi_1 * mpmath.log(1 + G * G / (eps * d))) / (one - beta)
    return product, c3, prime, c


def digits50_theorem17(T, s, sigma, d, alpha, theta, beta, L, G, gap, v_0):  # type: ignore[no-untyped-def]
    """Section 6 of the notes on the paper, written again in 50 digits; F is summed in another order."""
    theta_t = 1 - theta / T
    g = beta**2 / theta_t
    c7 = alpha**2 * L / theta / (1 - mpmath.sqrt(g)) ** 3
    c7 += (
        2
        * G
        * alpha
        / mpmath.sqrt(theta)
        * (1 + 2 * beta / (1 - beta) / mpmath.sqrt(1 - g)) ** 2
        / (1 - mpmath.sqrt(g))
    )
    c8 = mpmath.sqrt(T / s * (2 * sigma**2 * theta + v_0 * s * d)) / alpha
    c9 = mpmath.sqrt(2 * theta) / alpha
    c10 = (gap + c7 * d * T * mpmath.log(1 / theta_t)) * 2 / (1 - beta)
    c10 += 4 / (1 - beta) * c7 * d * mpmath.root(1 + 2 * sigma**2 / (d * v_0 * s), 4)
    c11 = 4 * d * c7 / (1 - beta) * mpmath.root(2 * theta / (d * v_0 * T), 4)
    total = (4 * c9 * c11) ** 2 + 4 * c9 * c10 + mpmath.cbrt(4 * c8 * c11) ** 2 + mpmath.sqrt(4 * c8 * c10)
    return c7, c8, c9, c10, c11, total / mpmath.sqrt(T)


def test_theorem_2s_constants_agree_with_50_digits_on_1000_parameter_sets() -> None:
    rng = np.random.default_rng(41)
    given = problems(rng)
    given["eps"] = spread(rng, 1e-16, 1.0)
    limit = rng.uniform(given["beta"] ** 2, 1.0)
    ramps = np.sort(rng.uniform(0.01, 1.0, (SETS, 6)), axis=1) * limit[:, None]
    theta_prime = np.maximum(rng.uniform(given["beta"] ** 2, limit), np.nextafter(given["beta"] ** 2, 1))
    given.update(theta_1=ramps[:, 0], theta_prime=theta_prime, C_0=spread(rng, 1, 100), chi_1=spread(rng, 1e-6, 10))
    c_1 = np.array([theorem2.c_1(ramp, prime) for ramp, prime in zip(ramps, theta_prime, strict=True)])
    found = theorem2.theorem2(**given, C_1=c_1)
    with mpmath.workdps(50):
        for i in range(SETS):
            row = {name: mpf(float(values[i])) for name, values in given.items()}
            wanted = digits50_theorem2(**row, thetas=[mpf(float(x)) for x in ramps[i]])
            for mine, true in zip(found, wanted, strict=True):
                assert abs(mpf(float(mine[i])) / true - 1) < 1e-10, (i, row)


def test_theorem_17s_constants_and_bound_agree_with_50_digits_on_1000_parameter_sets() -> None:
    rng = np.random.default_rng(42)
    given = problems(rng)
    given.update(sigma=spread(rng, 1e-3, 1e4), alpha=spread(rng, 1e-3, 100), theta=spread(rng, 1e-3, 100))
    given["s"] = np.floor(spread(rng, 1, 1e6))
    shortest = np.maximum(4 * given["theta"] / 3, given["theta"] / (1 - given["beta"] ** 2))
    given["T"] = np.maximum(1.0, np.ceil(shortest * (1 + spread(rng, 1e-2, 1e9))))
    v_0 = 1 / (given["s"] * given["d"])
    v_0[::2] = spread(rng, 1e-16, 1.0)[::2]
    found = theorem17.theorem17(**given, v_0=v_0)
    total = theorem17.bound(**given, v_0=v_0)
    with mpmath.workdps(50):
        for i in range(SETS):
            row = {name: mpf(float(values[i])) for name, values in given.items()}
            wanted = digits50_theorem17(**row, v_0=mpf(float(v_0[i])))
            for mine, true in zip((*found, total), wanted, strict=True):
                assert abs(mpf(float(mine[i])) / true - 1) < 1e-10, (i, row)


TOY = {"sigma": 20.0, "d": 10.0, "alpha": 4.0, "theta": 1.0, "beta": 0.9, "L": 8.0, "G": 60.0, "gap": 90.0}


def slope(function, x: np.ndarray) -> float:  # type: ignore[no-untyped-def]
    """The exponent between the two ends of x."""
    y = np.array([np.sum(function(value)) for value in x], dtype=float)
    return float(np.log(y[-1] / y[0]) / np.log(x[-1] / x[0]))


@pytest.mark.parametrize("term", range(4))
def test_each_term_of_theorem_17_has_the_exponents_of_its_constants(term: int) -> None:
    wanted = rates.SPEEDUP_TERMS[term]

    def value(T: float = 1e14, s: float = 4.0, d: float = 1e8) -> float:
        problem = {**TOY, "d": d}
        return float(theorem17.terms(theorem17.theorem17(T=T, s=s, **problem), T)[term])

    assert slope(lambda T: value(T=T), np.array([1e14, 1e15])) == pytest.approx(wanted.t, abs=1e-4)
    assert slope(lambda s: value(s=s), np.array([4.0, 64.0])) == pytest.approx(wanted.batch, abs=1e-4)
    assert slope(lambda d: value(d=d), np.array([1e8, 1e9])) == pytest.approx(wanted.dim, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "values", "exponent"),
    [
        ("T", [1e18, 1e20], -1 / 4),
        ("s", [1e1, 1e3], -1 / 4),
        ("d", [1e6, 1e8], 1 / 2),
        ("sigma", [1e12, 1e16], 3 / 4),  # C8 goes like sigma, C10 like its square root
        ("beta", [1 - 1e-4, 1 - 1e-5], -5 / 2),  # against 1 - beta
    ],
)
def test_the_term_that_decides_has_the_exponents_of_the_constants(
    name: str, values: list[float], exponent: float
) -> None:
    ends = []
    for value in values:
        given = {"T": 1e40, "s": 1.0, **TOY, name: value}
        ends.append(float(theorem17.terms(theorem17.theorem17(**given), given["T"])[0]))
    ratio = (1 - values[1]) / (1 - values[0]) if name == "beta" else values[1] / values[0]
    assert np.log(ends[1] / ends[0]) / np.log(ratio) == pytest.approx(exponent, abs=0.01)


def test_the_bounds_own_number_of_steps_goes_like_eps_to_the_minus_4_over_s() -> None:
    steps = theorem17.steps_to(np.array([1e-9, 1e-10]), 1.0, **TOY)
    assert np.log10(steps[1] / steps[0]) == pytest.approx(4, abs=1e-3)
    assert theorem17.bound(T=steps, s=1.0, **TOY) == pytest.approx([1e-9, 1e-10], rel=1e-8)
    steps = theorem17.steps_to(1e-12, np.array([1.0, 16.0]), **TOY)
    assert steps[0] / steps[1] == pytest.approx(16, rel=1e-3)


@pytest.mark.parametrize(
    ("r", "s", "power", "log_power"),
    [
        (0.5, 0.5, 0.125, 0.0),  # r/2 + s = 3/4
        (1.0, 0.5, 0.25, 0.5),  # the edge: AdaGrad
        (1.0, 0.6, 0.2, 0.0),  # beyond it
        (1.5, 0.75, 0.125, 0.0),
        (0.0, 0.5, 0.0, 0.0),  # constant theta
        (1.1, 0.5, 0.0, 0.0),  # r > 2 s
        (0.5, 1.0, 0.0, 0.0),  # s = 1
    ],
)
def test_the_polynomial_familys_rates_are_those_of_corollary_10(
    r: float, s: float, power: float, log_power: float
) -> None:
    assert rates.polynomial_rate(r, s) == rates.Rate(pytest.approx(power), log_power)


@pytest.mark.parametrize(("r", "s"), [(0.5, 0.5), (1.0, 0.6), (1.0, 0.75), (0.5, 0.25)])
def test_theorem_2s_bound_falls_at_the_polynomial_rate(r: float, s: float) -> None:
    t = np.unique(np.geomspace(1, 1e7, 2000).astype(int)).astype(float)
    full = np.arange(1.0, 1e7 + 1)
    total = np.cumsum(full ** -(s + r / 2) * 0.05 * np.sqrt(0.3))[t.astype(int) - 1]
    constants = theorem2.theorem2(
        L=1.0, G=1.0, gap=1.0, d=1.0, eps=1e-2, beta=0.5, theta_1=0.7, theta_prime=0.7, C_0=1.0, chi_1=0.05 / 0.3**0.5
    )
    bound = theorem2.bound(constants, steps=t, alpha_last=0.05 * t**-s, total=total)
    late = np.log(bound[-1] / bound[t > 1e6][0]) / np.log(t[-1] / t[t > 1e6][0])
    assert -late == pytest.approx(rates.polynomial_rate(r, s).power, abs=0.03)


def test_on_the_edge_the_bound_carries_a_logarithm() -> None:
    # r = 1, s = 1/2: bound^2 sqrt(T) = (C + C' eta sqrt(0.3) (log T + 0.577...)) / eta, a straight line in log T
    constants = theorem2.theorem2(
        L=1.0, G=1.0, gap=1.0, d=1.0, eps=1e-2, beta=0.5, theta_1=0.7, theta_prime=0.7, C_0=1.0, chi_1=0.05 / 0.3**0.5
    )
    t = np.arange(1.0, 10**6 + 1)
    total = np.cumsum(0.05 * t**-0.5 * np.sqrt(0.3 / t))
    bound = theorem2.bound(constants, steps=t, alpha_last=0.05 * t**-0.5, total=total)
    grown = bound**2 * np.sqrt(t) * 0.05
    rise = (grown[10**6 - 1] - grown[10**4 - 1]) / np.log(100)
    assert rise == pytest.approx(constants.c_prime * 0.05 * 0.3**0.5, rel=1e-3)
    assert rates.polynomial_rate(1.0, 0.5) == rates.Rate(0.25, 0.5)  # sqrt(log T) T^(-1/4)


def test_constant_theta_leaves_the_floor_of_corollary_7() -> None:
    problem = {"L": 1.0, "G": 1.0, "gap": 1.0, "d": 2.0, "eps": 1e-3}
    constants = theorem2.theorem2(
        **problem, beta=0.9, theta_1=0.999, theta_prime=0.999, C_0=1.0, chi_1=0.1 / np.sqrt(0.001)
    )
    floor = theorem2.floor(constants.c_prime, 0.999, 0.5)
    T = 1e16  # alpha_t = 0.1/sqrt(t) sums to 0.2 sqrt(T)
    late = theorem2.bound(constants, steps=T, alpha_last=0.1 / T**0.5, total=0.2 * T**0.5 * 0.001**0.5)
    assert late == pytest.approx(floor, rel=1e-3)
    alpha = 0.1 / np.sqrt(np.arange(1.0, 10_001))
    early = theorem2.bound_of_schedule(alpha, np.full(10_000, 0.999), beta=0.9, **problem)
    assert (early > floor).all()


def test_four_times_the_batch_is_theorem_17s_schedule_of_a_run_a_quarter_as_long() -> None:
    T, s, d, alpha, theta = 4000, 8, 10, 4.0, 2.0
    new = rates.moved(4, alpha=alpha / T**0.5, beta=0.9, theta_complement=theta / T, v_0=1 / (s * d))
    assert new == pytest.approx((alpha / (T / 4) ** 0.5, 0.9, theta / (T / 4), 1 / (4 * s * d)))
    with pytest.raises(ConfigError, match="Keep k below 1000"):
        rates.moved(2000, alpha=1.0, beta=0.9, theta_complement=1e-3, v_0=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theorem17.bound(T=1, s=1, **TOY), "Take more than 5.26"),
        (lambda: theorem17.steps_to(0.0, 1, **TOY), "Give eps > 0"),
        (lambda: theorem2.pick_theta_prime(0.5, 0.8, 0.9), "Lower beta below 0.894427"),
        (lambda: theorem2.bound_of_schedule([0.1], [0.9], beta=0.1, L=1, G=1, gap=1, d=1, eps=0.0), "Give eps > 0"),
    ],
)
def test_outside_a_theorems_domain_the_cure_is_named(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        call()


# No run above the bound: the toy with a bounded gradient, f = sum 2 D^2 (sqrt(1 + (x/D)^2) - 1) + a sin^2 x


class BoundedToy:
    """Its constants by hand: |f_i'| <= 2 D + a, f_i'' <= 2 + 2 a, f* = 0."""

    def __init__(self, d: int, a: float, delta: float, sigma: float, start: float) -> None:
        self.d, self.a, self.delta, self.sigma, self.start = d, a, delta, sigma, start

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return 2 * x / np.sqrt(1 + (x / self.delta) ** 2) + self.a * np.sin(2 * x)

    def value(self, x: np.ndarray) -> np.ndarray:
        return (2 * self.delta**2 * (np.sqrt(1 + (x / self.delta) ** 2) - 1) + self.a * np.sin(x) ** 2).sum(-1)

    def constants(self, batch: int) -> dict[str, float]:
        square = self.d * (2 * self.delta + self.a) ** 2 + self.sigma**2 / batch
        gap = float(self.value(np.full(self.d, self.start)))
        return {"L": 2 + 2 * self.a, "G": square**0.5, "gap": gap, "d": self.d}

    def mean_norm(self, alpha, theta, beta, v_0, batch, runs, rng):  # type: ignore[no-untyped-def]
        """Mean over t of ||grad f(x_t)|| of each of `runs` runs of generic Adam."""
        x = np.full((runs, self.d), self.start)
        m, v, total = np.zeros_like(x), np.full_like(x, v_0), np.zeros(runs)
        for a_t, theta_t in zip(alpha, theta, strict=True):
            true = self.gradient(x)
            total += np.sqrt((true**2).sum(1))
            g = true + rng.standard_normal(x.shape) * (self.sigma / np.sqrt(self.d * batch))
            v = theta_t * v + (1 - theta_t) * g**2
            m = beta * m + (1 - beta) * g
            x = x - a_t * m / np.sqrt(v)
        return total / len(alpha)


SETTINGS = [
    # d, a, delta, sigma, start, batch, T, alpha, theta, beta
    (1, 1.0, 1.0, 0.1, 1.0, 1, 300, 0.1, 0.5, 0.0),
    (1, 1.0, 1.0, 5.0, 3.0, 4, 100, 10.0, 1.0, 0.5),
    (3, 0.5, 2.0, 1.0, 10.0, 1, 30, 0.01, 3.0, 0.0),
    (10, 3.0, 5.0, 20.0, 3.0, 16, 200, 4.0, 1.0, 0.9),
    (2, 2.0, 4.0, 100.0, 0.1, 1, 200, 1.0, 10.0, 0.1),
]


def test_no_run_lies_above_the_bound_of_theorem_17() -> None:
    rng = np.random.default_rng(43)
    nearest = 0.0
    for d, a, delta, sigma, start, batch, T, alpha, theta, beta in SETTINGS:
        toy = BoundedToy(d, a, delta, sigma, start)
        schedule = (np.full(T, alpha / T**0.5), np.full(T, 1 - theta / T))
        norms = toy.mean_norm(*schedule, beta, 1 / (batch * d), batch, RUNS // 5, rng)
        bound = theorem17.bound(T=T, s=batch, sigma=sigma, alpha=alpha, theta=theta, beta=beta, **toy.constants(batch))
        assert (norms <= bound).all(), (d, a, delta)
        nearest = max(nearest, float((norms / bound).max()))
    assert nearest > 1e-3  # near enough that a bound without its constants would be crossed


def test_no_run_lies_above_the_bound_of_theorem_2() -> None:
    rng = np.random.default_rng(44)
    nearest = 0.0
    for (d, a, delta, sigma, start, batch, T, alpha, _, beta), r in zip(SETTINGS, (0.5, 1, 0.8, 1, 0), strict=True):
        toy, t = BoundedToy(d, a, delta, sigma, start), np.arange(1, T + 1)
        schedule = (alpha / t**0.5, 1 - 0.1 / t**r)
        norms = toy.mean_norm(*schedule, beta, 1e-2, batch, RUNS // 5, rng)
        bound = theorem2.bound_of_schedule(*schedule, beta=beta, eps=1e-2, **toy.constants(batch))[-1]
        assert (norms <= bound).all(), (d, a, delta)
        nearest = max(nearest, float((norms / bound).max()))
    assert nearest > 1e-3  # near enough that a bound without its constants would be crossed
