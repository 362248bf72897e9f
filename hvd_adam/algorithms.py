"""The named members of the family, each a function of few arguments (theory: Chen et al. 2022, p. 11).

The paper's members have no bias correction and keep epsilon in v_0 alone; Adam, AdamW and AMSGrad
follow torch's conventions, since that is what their names mean to who runs them.
"""

from __future__ import annotations

import difflib
import inspect
from dataclasses import dataclass
from typing import Any, Callable

from hvd_adam.errors import ConfigError
from hvd_adam.schedules import (
    Constant,
    Geometric,
    HorizonAlpha,
    HorizonTheta,
    PolynomialTheta,
    Power,
    Schedule,
    as_schedule,
)

ONE_OVER_SD = "1/(s d)"


@dataclass(frozen=True)
class Algorithm:
    """What generic Adam needs to become one of its members.

    Attributes:
        alpha, beta, theta: alpha_t, beta_t (torch's beta1), theta_t (torch's beta2).
        v0: start of v, a number or "1/(s d)": s the global batch, d the number of parameters.
        eps, eps_in: epsilon in the "denominator" as torch has it; with "v0", v0 is the paper's epsilon.
    """

    name: str
    alpha: Schedule
    beta: Schedule
    theta: Schedule
    v0: float | str = 1e-8
    eps: float = 0.0
    eps_in: str = "v0"
    bias_correction: bool = False
    weight_decay: float = 0.0
    decoupled: bool = False
    amsgrad: bool = False

    def optimizer_arguments(self, *, batch: int, dim: int, steps: int) -> dict[str, Any]:
        """Keyword arguments of GenericAdam for a run of T = `steps`, global batch s and d parameters."""
        betas = (_simplest(self.beta.with_horizon(steps)), _simplest(self.theta.with_horizon(steps)))
        return {
            "lr": _simplest(self.alpha.with_horizon(steps)),
            "betas": betas,
            "eps": self.eps,
            "eps_in": self.eps_in,
            "v0": 1.0 / (batch * dim) if isinstance(self.v0, str) else self.v0,
            "bias_correction": self.bias_correction,
            "weight_decay": self.weight_decay,
            "decoupled_weight_decay": self.decoupled,
            "amsgrad": self.amsgrad,
        }


def _simplest(schedule: Schedule) -> float | Schedule:
    return schedule.value if isinstance(schedule, Constant) else schedule


def _torch_like(name: str, lr: Any, beta: Any, theta: Any, eps: float, **more: Any) -> Algorithm:
    return Algorithm(
        name, as_schedule(lr), as_schedule(beta), as_schedule(theta), 0.0, eps, "denominator", True, **more
    )


def adam(lr: Any = 1e-3, beta: Any = 0.9, theta: Any = 0.999, eps: float = 1e-8) -> Algorithm:
    """torch.optim.Adam: bias correction, epsilon in the denominator. Any of the three may be scheduled."""
    return _torch_like("adam", lr, beta, theta, eps)


def adamw(
    lr: Any = 1e-3, beta: Any = 0.9, theta: Any = 0.999, eps: float = 1e-8, weight_decay: float = 1e-2
) -> Algorithm:
    """torch.optim.AdamW: Adam with decoupled weight decay."""
    return _torch_like("adamw", lr, beta, theta, eps, weight_decay=weight_decay, decoupled=True)


def amsgrad(lr: Any = 1e-3, beta: Any = 0.9, theta: Any = 0.999, eps: float = 1e-8) -> Algorithm:
    """torch.optim.Adam(amsgrad=True) (Reddi et al. 2018)."""
    return _torch_like("amsgrad", lr, beta, theta, eps, amsgrad=True)


def adagrad(lr: float = 1e-2, v0: float = 1e-8) -> Algorithm:
    """theta_t = 1 - 1/t, alpha_t = lr/sqrt(t), beta = 0: torch.optim.Adagrad with epsilon 0 and no start.

    v_t = (g_1^2 + ... + g_t^2) / t, so the step is lr g_t / sqrt(g_1^2 + ... + g_t^2); v_0 has weight 0.
    """
    return Algorithm("adagrad", Power(lr, 0.5), Constant(0.0), PolynomialTheta(1.0, 1.0), v0)


def adaema(lr: float = 1e-2, beta: float = 0.9, v0: float = 1e-8) -> Algorithm:
    """AdaGrad with an exponential moving average as momentum."""
    return Algorithm("adaema", Power(lr, 0.5), Constant(beta), PolynomialTheta(1.0, 1.0), v0)


def adamnc(lr: float = 1e-2, beta: float = 0.9, decay: float = 0.999, v0: float = 1e-8) -> Algorithm:
    """AdaEMA with beta_t = beta * decay**t (Reddi et al. 2018)."""
    return Algorithm("adamnc", Power(lr, 0.5), Geometric(beta, decay), PolynomialTheta(1.0, 1.0), v0)


def rmsprop(lr: float = 1e-2, alpha: float = 0.9, v0: float = 1e-8) -> Algorithm:
    """RMSProp of Mukkamala and Hein 2017: theta_t = 1 - alpha/t, alpha_t = lr/sqrt(t), beta = 0."""
    return Algorithm("rmsprop", Power(lr, 0.5), Constant(0.0), PolynomialTheta(alpha, 1.0), v0)


def path(r: float = 1.0, lr: float = 1e-3, beta: float = 0.9, theta: float = 0.999, v0: float = 1e-8) -> Algorithm:
    """From Adam (r = 0) to AdaEMA (r = 1): theta_t = 1 - (r theta + 1 - theta)/t^r (p. 12)."""
    if not (isinstance(r, (int, float)) and 0 <= r <= 1):
        raise ConfigError(
            f"algorithm path, r: {r}", "r lies in [0, 1]: 0 is Adam, 1 is AdaEMA", "set r: 0.5, for instance"
        )
    return Algorithm("path", Power(lr, 0.5), Constant(beta), PolynomialTheta(r * theta + 1 - theta, r), v0)


def polynomial(
    lr: float = 1e-3, s: float = 0.5, alpha: float = 0.9, r: float = 1.0, start: int = 1, beta: float = 0.9,
    v0: float = 1e-8,
) -> Algorithm:  # fmt: skip
    """Corollary 10 (p. 10): alpha_t = lr/t^s, theta_t by equation (8). Converges for 0 < r <= 2 s < 2."""
    return Algorithm("polynomial", Power(lr, s), Constant(beta), PolynomialTheta(alpha, r, start), v0)


def theorem17(alpha: float = 1.0, theta: float = 1.0, beta: float = 0.9) -> Algorithm:
    """The schedule of the linear speed-up (Theorem 17, p. 14): alpha/sqrt(T), 1 - theta/T, v_0 = 1/(s d)."""
    return Algorithm("theorem17", HorizonAlpha(alpha), Constant(beta), HorizonTheta(theta), ONE_OVER_SD)


MEMBERS: dict[str, Callable[..., Algorithm]] = {
    member.__name__: member
    for member in (adam, adamw, amsgrad, adagrad, adaema, adamnc, rmsprop, path, polynomial, theorem17)
}


def named(name: str, **arguments: Any) -> Algorithm:
    """A member by its name.

    Raises:
        ConfigError: an unknown name or argument; lists the known ones.
    """
    member = _member(name)
    known = inspect.signature(member).parameters
    unknown = [key for key in arguments if key not in known]
    if unknown:
        raise ConfigError(
            f"algorithm {name}: {', '.join(unknown)}", "it has no such argument", f"it takes {', '.join(known)}"
        )
    return member(**arguments)


def check_arguments(name: str, options: dict[str, Any]) -> None:
    """Looks at the types of a member's arguments; unknown ones it refuses itself.

    Raises:
        ConfigError: there is no such member, or an argument is of another type.
    """
    for key, parameter in inspect.signature(_member(name)).parameters.items():
        value = options.get(key, parameter.default)
        kind = str(parameter.annotation)
        if kind == "Any":
            as_schedule(value)
        elif isinstance(value, bool) or not isinstance(value, int if kind == "int" else (int, float)):
            number = "a whole number" if kind == "int" else "a number"
            raise ConfigError(
                f"algorithm.{key}: {value!r}", f"it takes {number} there", f"say {key}: {parameter.default}"
            )


def _member(name: str) -> Callable[..., Algorithm]:
    if name not in MEMBERS:
        near = difflib.get_close_matches(name, MEMBERS, n=1)
        raise ConfigError(
            f"algorithm: {name}",
            f"there is no such member; there are {', '.join(MEMBERS)}",
            f"did you mean {near[0]}?" if near else "name one of these, or write an optimizer section",
        )
    return MEMBERS[name]
