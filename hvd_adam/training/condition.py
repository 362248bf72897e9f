"""The sufficient condition before training: one line, or a refusal."""

from __future__ import annotations

from hvd_adam.config import RunConfig
from hvd_adam.errors import ConditionError, ConfigError
from hvd_adam.theory.condition import check_algorithm
from hvd_adam.theory.report import line, why


def require_condition(config: RunConfig, steps: int) -> None:
    """Holds a run to the condition where its config says `condition: require`.

    Raises:
        ConditionError: it is not shown to hold.
    """
    if config.condition != "require":
        return
    verdict = check_algorithm(config.member(), steps)
    if not verdict.holds:
        change = f"change {verdict.repair.text}, or say" if verdict.repair else "say"
        raise ConditionError(
            f"condition: require, and it is {verdict.state.value}: {why(verdict)}",
            "the sufficient condition for convergence is not shown to hold; hvd-adam check says more",
            f"{change} condition: warn to train all the same",
        )


def condition_line(config: RunConfig, steps: int) -> str | None:
    """What is said before training; None with `condition: off`."""
    if config.condition == "off":
        return None
    try:
        return line(check_algorithm(config.member(), steps))
    except ConfigError as error:  # what trains, but is outside the theory: a learning rate of 0
        return f"condition: not judged, {error.found}: {error.why}"
