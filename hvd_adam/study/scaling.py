"""How the learning rate, and for one rule the betas and epsilon, move when the batch grows by a factor k."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

from hvd_adam import algorithms
from hvd_adam.errors import ConfigError


class Refused(ValueError):
    """A rule has no meaning at this batch; the text says why."""


def scaled(document: dict[str, Any], rule: str, k: float, factor: float = 1.0) -> dict[str, Any]:
    """A run's plain config for a batch k times the smallest, its lr times `factor` besides.

    rule: "none"; "sqrt": lr x sqrt(k); "linear": lr x k; "malladi": lr x sqrt(k), 1 - beta and 1 - theta x k,
    eps / sqrt(k) (Malladi et al. 2022, arXiv 2205.10287).

    Raises:
        Refused: k (1 - beta) or k (1 - theta) is not below 1.
        ConfigError: the algorithm has nothing that the rule could move.
    """
    power = {"none": 0.0, "linear": 1.0}.get(rule, 0.5)
    move = factor * k**power
    document = copy.deepcopy(document)
    if move == 1.0 and rule != "malladi":
        return document
    section = _section(document, rule)
    section["lr"] = _times(section["lr"], move)
    if rule == "malladi":
        _move_the_rest(section, k)
    return document


def _section(document: dict[str, Any], rule: str) -> dict[str, Any]:
    """The mapping in the document that holds lr, filled with the defaults that a rule may move."""
    if document.get("optimizer") is not None:
        section = document["optimizer"]
        for key, value in (("lr", 1e-3), ("betas", [0.9, 0.999]), ("eps", 1e-8)):
            section.setdefault(key, value)
        return section
    given = document.get("algorithm") or {"name": "adam"}
    section = {"name": given} if isinstance(given, str) else given
    document["algorithm"] = section
    member = algorithms.MEMBERS.get(section.get("name", ""))
    known = inspect.signature(member).parameters if member else {}
    if "lr" not in known:
        raise ConfigError(
            f"lr rule {rule} with algorithm {section.get('name')}",
            "it has no lr that could be moved: its schedule is fixed by the theory",
            "say lr: {rule: none}, or choose another algorithm",
        )
    for key in ("lr", "beta", "theta", "eps"):
        if key in known:
            section.setdefault(key, known[key].default)
    return section


def _times(value: Any, factor: float) -> Any:
    if isinstance(value, (int, float)):
        return value * factor
    return {"product": {"factors": [factor, value]}}


def _move_the_rest(section: dict[str, Any], k: float) -> None:
    betas: list[Any] = section["betas"] if "betas" in section else [section.get("beta"), section.get("theta")]
    if not all(isinstance(value, (int, float)) for value in (*betas, section.get("eps"))):
        raise ConfigError(
            f"lr rule malladi with betas {betas}",
            "it moves constant betas and an epsilon in the denominator",
            "use adam or adamw with constants, or lr: {rule: sqrt}",
        )
    for name, value in zip(("beta", "theta"), betas, strict=True):
        if k * (1 - value) >= 1 - 1e-9:  # 1 - 0.9 is a little below 0.1 in binary
            raise Refused(f"k (1 - {name}) = {k:g} x {1 - value:.3g} is not below 1")
    moved = [1 - k * (1 - value) for value in betas]
    if "betas" in section:
        section["betas"] = moved
    else:
        section["beta"], section["theta"] = moved
    section["eps"] = section["eps"] / math.sqrt(k)
