"""What a probe measured, what follows from it, and how both are kept in probe.json. No torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np

from hvd_adam.errors import ConfigError, RunError
from hvd_adam.theory.elbow import Range, elbow
from hvd_adam.theory.noise import FEWEST_STEPS, NoiseScale, gradient_bound, noise_scale

SCHEMA = 1
FEWEST = 3 * FEWEST_STEPS  # early, middle and late part
LIMIT = "order of magnitude: constants of an upper bound"


class Curvature(NamedTuple):
    """The largest |eigenvalue| of the Hessian at a point, approached from below.

    Attributes:
        step: steps taken when it was measured.
        value: of the mean loss over `samples` training samples; None where it has no second derivative.
        rounds: Hessian-vector products.
        settled: the last three rounds agreed to 0.5 %.
        why: what stood in the way, where there is no value.
    """

    step: int
    value: float | None
    samples: int
    rounds: int
    settled: bool
    why: str = ""


@dataclass
class Measured:
    """A probe's raw numbers, one of each list a step.

    Attributes:
        worker_square: mean over workers of ||g_w||^2.
        mean_square: ||g||^2 of the average over workers.
        dim: trainable weights and biases, d.
        train_size: training samples; 0 is an endless stream.
    """

    config: Mapping[str, Any]
    path: Path
    ranks: int
    engine: str
    planned_steps: int
    dim: int
    train_size: int
    seconds: float = 0.0
    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    worker_square: list[float] = field(default_factory=list)
    mean_square: list[float] = field(default_factory=list)
    curvature: list[Curvature] = field(default_factory=list)

    @property
    def shared_out(self) -> int:
        """The samples that a step's are drawn from without replacement; 0 where they are independent."""
        return self.train_size if self.config.get("sampling") == "epochs" else 0

    @property
    def workers(self) -> int:
        """The algorithm's s."""
        return self.config["workers"]

    @property
    def worker_batch(self) -> int:
        """Samples behind one worker's gradient."""
        return self.config["local_batch"] * self.config["accumulation"]


@dataclass(frozen=True)
class Stretch:
    """Steps first..last: the mean loss, the noise scale and where it puts the elbow, in samples of a step."""

    first: int
    last: int
    loss: float
    noise: NoiseScale
    elbow: Range


@dataclass(frozen=True)
class Findings:
    """What a probe came to.

    Attributes:
        early, late: the first and the last third of its steps.
        eps: the gradient norm that the predicted elbow is for.
        asked: `eps` was given; else it is that of the late part.
        elbow: predicted, in samples of a step over all workers.
        lipschitz: L along the path: the largest curvature met; None where there is none.
        gradient_bound: G along the path, of one sample's gradient.
        gap: mean loss of the first steps: f(x_1) - f* where f* = 0.
    """

    measured: Measured
    early: Stretch
    late: Stretch
    eps: float
    asked: bool
    elbow: Range
    lipschitz: float | None
    gradient_bound: float
    gap: float

    def to_plain(self) -> dict[str, Any]:
        """For probe.json: estimates as they came, below 0 too."""
        measured = self.measured
        return {
            "schema": SCHEMA,
            "kind": "probe",
            "config": dict(measured.config),
            **{key: getattr(measured, key) for key in ("ranks", "engine", "planned_steps", "dim", "train_size")},
            "seconds": round(measured.seconds, 3),
            "steps": len(measured.steps),
            "workers": measured.workers,
            "worker_batch": measured.worker_batch,
            "early": _plain_stretch(self.early),
            "late": _plain_stretch(self.late),
            "curvature": [point._asdict() for point in measured.curvature],
            "lipschitz": self.lipschitz,
            "gradient_bound": self.gradient_bound,
            "gap": self.gap,
            "eps": self.eps,
            "elbow": self.elbow._asdict(),
        }


def find(measured: Measured, eps: float | None = None) -> Findings:
    """Early and late part apart, curvature, and the elbow.

    Raises:
        RunError: fewer than 36 steps.
    """
    count = len(measured.steps)
    if count < FEWEST:
        more = math.ceil(2 * measured.seconds * FEWEST / max(count, 1))
        few = measured.planned_steps < FEWEST
        raise RunError(
            f"{count} steps in {measured.seconds:.0f} s",
            f"an early and a late part with intervals need {FEWEST} steps",
            f"set steps={FEWEST} or more" if few else f"give --seconds {more}, or a smaller batch or model",
        )
    third, extra = count // 3, _of_theta(measured.config)
    early, late = _stretch(measured, 0, third, extra), _stretch(measured, count - third, count, extra)
    square = late.noise.square.value
    trace = late.noise.trace
    # a gradient that is lost in its noise is no longer than the interval says, or than the noise that hides it
    seen = next(
        (one for one in (square, late.noise.square.high) if one > 0),
        trace.value / (measured.workers * measured.worker_batch),
    )
    aim = eps or math.sqrt(seen)
    there = late.elbow
    if eps:
        there = elbow(Range(*(part + extra for part in trace)).times(1 / eps**2))
    values = [point.value for point in measured.curvature if point.value is not None]
    batch = {
        "local_batch": measured.worker_batch, "workers": measured.workers, "shared_out": measured.shared_out,
    }  # fmt: skip
    return Findings(
        measured, early, late, aim, eps is not None, there, max(values, default=None),
        gradient_bound(measured.worker_square, measured.mean_square, **batch),
        float(np.mean(measured.loss[: max(1, count // 20)])),
    )  # fmt: skip


def _stretch(measured: Measured, start: int, end: int, extra: float) -> Stretch:
    noise = noise_scale(
        measured.worker_square[start:end],
        measured.mean_square[start:end],
        local_batch=measured.worker_batch,
        workers=measured.workers,
        shared_out=measured.shared_out,
    )
    signal = max(noise.square.value, 0.0)
    shift = extra / signal if signal else 0.0
    scale = Range(*(part + shift for part in noise.scale))
    steps = measured.steps
    return Stretch(steps[start], steps[end - 1], float(np.mean(measured.loss[start:end])), noise, elbow(scale))


def _of_theta(config: Mapping[str, Any]) -> float:
    """1/(2 theta), which v_0 = 1/(s d) adds to sigma^2 under Theorem 17's schedule; 0 elsewhere."""
    algorithm = config.get("algorithm") or {}
    return 0.5 / algorithm.get("theta", 1.0) if algorithm.get("name") == "theorem17" else 0.0


def _plain_stretch(stretch: Stretch) -> dict[str, Any]:
    noise = stretch.noise
    ranges = {name: getattr(noise, name)._asdict() for name in ("trace", "square", "scale")}
    return {
        "first": stretch.first,
        "last": stretch.last,
        "loss": stretch.loss,
        **ranges,
        "steps": noise.steps,
        "blocks": noise.blocks,
        "elbow": stretch.elbow._asdict(),
    }


class Saved(NamedTuple):
    """What `predict` takes from a probe's file; `gap` and the rest as in Findings."""

    sigma: Range
    eps: float
    dim: int
    worker_batch: int
    lipschitz: float | None
    gradient_bound: float
    gap: float
    theorem17: Mapping[str, float] | None
    toy: bool  # the very one that the elbow's rule was found on


def read(path: str | Path) -> Saved:
    """Reads probe.json, or the folder that holds it.

    Raises:
        ConfigError: there is none, or it is something else.
    """
    path = Path(path)
    file = path / "probe.json" if path.is_dir() else path
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        if facts["kind"] != "probe" or facts["schema"] != SCHEMA:
            raise ValueError(f"kind {facts['kind']}, schema {facts['schema']}")
        trace = Range(*(math.sqrt(float(facts["late"]["trace"][end])) for end in Range._fields))
        algorithm = facts["config"].get("algorithm") or {}
        return Saved(
            trace, float(facts["eps"]), facts["dim"], facts["worker_batch"], facts["lipschitz"],
            float(facts["gradient_bound"]), float(facts["gap"]),
            algorithm if algorithm.get("name") == "theorem17" else None, _is_toy(facts["config"].get("task") or {}),
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(
            f"{file}", f"it cannot be read: {error.strerror}", "make one: hvd-adam probe CONFIG"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{file}", f"it is not what a probe of this version writes: {error}", "make one: hvd-adam probe CONFIG"
        ) from error


def _is_toy(task: Mapping[str, Any]) -> bool:
    return task.get("name") == "toy" and set(task) <= {"name", "d", "sigma"}


def powers_of_two(low: float, high: float) -> Sequence[int]:
    """1, 2, 4, ... from the last at or below `low` (at least 1) to the first at or above `high`."""
    first = max(0, math.floor(math.log2(low))) if low > 1 else 0
    last = max(first, math.ceil(math.log2(max(high, 1.0))))
    return [2**k for k in range(first, last + 1)]
