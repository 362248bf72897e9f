"""Schedules: frozen values t -> float, t = 1, 2, ..., vectorised over numpy arrays.

The one vocabulary that every part shares: the checker judges them, the optimizer follows them, the
trace records them. Each is a frozen dataclass: picklable, comparable, hashable, and it says itself as
plain YAML data (`to_plain`, `schedule_from_plain`). Notation: alpha_t learning rate, beta_t torch's
beta1, theta_t torch's beta2 (Chen et al., JMLR 23(229), 2022).
"""

from hvd_adam.schedules.base import Schedule, as_schedule, schedule_from_plain
from hvd_adam.schedules.compound import BiasCorrected, LinearWarmup, Piecewise, Product
from hvd_adam.schedules.decays import CosineDecay, LinearDecay, StepDecay
from hvd_adam.schedules.domain import check_training_domain
from hvd_adam.schedules.expressions import Expression, parse
from hvd_adam.schedules.laws import Constant, Geometric, HorizonAlpha, HorizonTheta, PolynomialTheta, Power

__all__ = [
    "BiasCorrected",
    "Constant",
    "CosineDecay",
    "Expression",
    "Geometric",
    "HorizonAlpha",
    "HorizonTheta",
    "LinearDecay",
    "LinearWarmup",
    "Piecewise",
    "PolynomialTheta",
    "Power",
    "Product",
    "Schedule",
    "StepDecay",
    "as_schedule",
    "check_training_domain",
    "parse",
    "schedule_from_plain",
]
