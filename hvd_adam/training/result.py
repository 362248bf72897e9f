"""What a run came to: the value that the loop fills, checkpoints carry and result.json holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvd_adam.config import RunConfig
from hvd_adam.training.rundir import FINISHED, mapping, number_again
from hvd_adam.training.trace import SCHEMA

PHASES = ("data", "forward", "backward", "wait", "step")
_LEFT_OUT = ("path", "in_a_row", "evaluations")  # of result.json


@dataclass
class Result:
    """What a run came to. `seconds` by phase, of rank 0; `status`: done, stopped or failed.

    `ended_by`: steps, target (all of `until` were reached), time (max_seconds), signal, or diverged. `evaluations`:
    (step, measures), of all launches of this run.
    """

    path: Path
    step: int = 0
    samples: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    measures: dict[str, float] = field(default_factory=dict)
    target: str = "loss"
    ranks: int = 1
    workers: int = 1
    skipped: int = 0
    in_a_row: int = 0
    status: str = "running"
    ended_by: str = ""
    evaluations: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    @property
    def stopped(self) -> bool:
        """It was asked to stop, and saved itself."""
        return self.status == "stopped"

    def has_reached(self, config: RunConfig) -> bool:
        """All of the config's targets; without any, never."""
        return bool(config.until) and all(target.first_passage(self.evaluations) for target in config.until)

    def to_plain(self, config: RunConfig, steps: int, status: str) -> dict[str, Any]:
        """What result.json says of it, T being `steps`."""
        facts = {name: value for name, value in vars(self).items() if name not in _LEFT_OUT}
        facts["status"] = status
        facts["reached"] = {str(target): target.first_passage(self.evaluations) for target in config.until}
        return {"schema": SCHEMA, "identity": config.identity(), "steps": steps, **facts}

    def to_checkpoint(self) -> dict[str, Any]:
        """What a run that goes on from here must know of it."""
        return {
            "skipped": [self.skipped, self.in_a_row],
            "samples": self.samples,
            "seconds": self.seconds,
            "measures": self.measures,
            "evaluations": self.evaluations,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Takes over what `to_checkpoint` gave, and the step that it was saved at."""
        self.step, self.samples = saved["step"], saved["samples"]
        self.skipped, self.in_a_row = saved["skipped"]
        self.seconds, self.measures = dict(saved["seconds"]), dict(saved["measures"])
        self.evaluations = [(step, dict(measures)) for step, measures in saved["evaluations"]]


def finished(path: Path, steps: int, seconds: float | None) -> Result | None:
    """The result of a run that has nothing left to do, else None: so too where it cannot be read as one.

    Args:
        path: the run directory.
        steps, seconds: how far the run is to go now; None: for as long as it takes.
    """
    facts = mapping(path / FINISHED)
    step, ended_by = facts.get("step", 0), facts.get("ended_by")
    ended_early = ended_by == "target" or (ended_by == "time" and seconds is not None and _spent(facts) >= seconds)
    if facts.get("status") != "done" or not isinstance(step, int) or (step < steps and not ended_early):
        return None
    values = {key: number_again(value) for key, value in facts.items() if key in Result.__dataclass_fields__}
    return Result(**{**values, "path": path, "status": "done before"})


def _spent(facts: dict[str, Any]) -> float:
    """Seconds of training that a result tells of."""
    phases = facts.get("seconds")
    return sum(phases.values()) if isinstance(phases, dict) else 0.0
