"""What a user must know besides the four clauses."""

from __future__ import annotations

from hvd_adam.algorithms import Algorithm
from hvd_adam.schedules import Constant
from hvd_adam.theory.subject import Subject
from hvd_adam.theory.verdict import Verdict

_LARGE = 3.0  # a C_0 from here on is worth a word


def notes_on(subject: Subject, verdict: Verdict) -> tuple[str, ...]:
    """Of the schedules."""
    found = []
    if verdict.bound and verdict.bound.steps < subject.steps:
        found.append(f"alpha_t = 0 beyond t = {verdict.bound.steps}: judged at that last positive value")
    constant = verdict.constant
    if constant and _LARGE <= constant.value < float("inf"):
        found.append("C and C' grow like C_0^2 to C_0^4")
    if subject.family:
        found.append("a schedule knows T: judged as T grows, with constants that hold for every T")
    beta, theta = subject.beta, subject.theta
    if isinstance(beta, Constant) and isinstance(theta, Constant) and beta.value**2 >= theta.value:
        found.append(f"beta^2 = {beta.value**2:.4g} >= theta: Theorems 2 and 17 say nothing at all")
    return tuple(found)


def notes_on_algorithm(algorithm: Algorithm) -> tuple[str, ...]:
    """Of what the member does beyond generic Adam."""
    found = []
    if algorithm.eps and algorithm.eps_in == "denominator":
        found.append(f"epsilon = {algorithm.eps:g} in the denominator: the theorem has it in v_0")
    if algorithm.amsgrad:
        found.append("AMSGrad's maximum is not in the theorem: its schedules alone are judged")
    if algorithm.weight_decay:
        kind = "decoupled weight decay is a step beside the theorem's" if algorithm.decoupled else "l2 is part of f"
        found.append(kind)
    return tuple(found)
