"""From options or a probe's file to a prediction, and from a prediction to a table. No torch."""

from __future__ import annotations

import math
from typing import Any, Mapping

from hvd_adam.errors import ConfigError
from hvd_adam.probe.findings import LIMIT, read
from hvd_adam.probe.wording import in_workers, number, said
from hvd_adam.theory.elbow import PREFACTOR, Range, ruled
from hvd_adam.theory.prediction import Prediction, predict

MOST_ROWS = 14
_BOUND = {"dim": "d", "lipschitz": "L", "gradient_bound": "G", "gap": "gap"}


def outlook(probe: str | None, given: Mapping[str, Any]) -> Prediction:
    """The prediction from a probe's file, from options, or from both: an option goes before the file.

    Args:
        probe: probe.json or its folder.
        given: sigma, eps, theta, alpha, beta, dim, lipschitz, gradient_bound, gap, local_batch, workers_to and
            known, None where not given.

    Raises:
        ConfigError: sigma or eps is not known, or out of range.
    """
    found = {name: value for name, value in given.items() if value is not None}
    theorem17, toy = True, False
    if probe is not None:
        saved = read(probe)
        known = {"sigma": saved.sigma, "eps": saved.eps, "dim": saved.dim, "local_batch": saved.worker_batch}
        known |= {"lipschitz": saved.lipschitz, "gradient_bound": saved.gradient_bound, "gap": saved.gap}
        known |= {key: value for key, value in (saved.theorem17 or {}).items() if key in ("alpha", "theta", "beta")}
        theorem17, toy = saved.theorem17 is not None or "theta" in found, saved.toy
        found = {**{key: value for key, value in known.items() if value is not None}, **found}
    for name in ("sigma", "eps"):
        if name not in found:
            raise ConfigError(
                f"no --{name}",
                "the elbow lies at a multiple of (sigma^2 + 1/(2 theta)) / eps^2",
                "give --sigma and --eps, or the folder of a probe",
            )
    sigma = found["sigma"]
    sigma = sigma if isinstance(sigma, Range) else Range(sigma, sigma, sigma)
    theta = found.get("theta", 1.0 if theorem17 else math.inf)
    problem = None
    if theorem17 and all(name in found for name in _BOUND):
        problem = {symbol: found[name] for name, symbol in _BOUND.items()}
        problem |= {"alpha": found.get("alpha", 1.0), "beta": found.get("beta", 0.9)}
    each = found.get("local_batch", 1)
    prefactor, ground = _prefactor(found, theta, theorem17, toy)
    top = predict(sigma, found["eps"], theta=theta, workers=[1], prefactor=prefactor).elbow.high
    counts = [2**k for k in range(int(math.log2(found.get("workers_to") or _far_enough(top, each))) + 1)]
    return predict(
        sigma, found["eps"], theta=theta, worker_batch=each, workers=counts, problem=problem, known=_point(found),
        prefactor=prefactor, ground=ground,
    )  # fmt: skip


def _prefactor(found: Mapping[str, Any], theta: float, theorem17: bool, toy: bool) -> tuple[tuple[float, float], str]:
    """The range of elbow / s*, by the rule where it can be asked; and what it rests on."""
    if not theorem17:
        return PREFACTOR, "no rule: it is known for Theorem 17's schedule alone"
    if "dim" not in found:
        return PREFACTOR, "no rule: it needs --d"
    known = {name: found.get(name) for name in ("lipschitz", "gap")}
    by_rule, ground = ruled(
        alpha=found.get("alpha", 1.0), theta=theta, eps=found["eps"], d=found["dim"], toy=toy, **known
    )
    return by_rule or PREFACTOR, ground


def _far_enough(top: float, each: int) -> int:
    """To twice the upper end of the elbow, in no more rows than a screen holds."""
    return 2 ** min(MOST_ROWS - 1, max(1, math.ceil(math.log2(max(1.0, 2 * top / each)))))


def _point(found: Mapping[str, Any]) -> tuple[int, float] | None:
    if "known" not in found:
        return None
    batch, _, steps = str(found["known"]).partition(":")
    try:
        return int(batch), float(steps)
    except ValueError:
        raise ConfigError(
            f"--known {found['known']}", "it is a batch and the steps it took", "write --known 64:1200"
        ) from None


def curve(prediction: Prediction) -> str:
    """The prediction as a screen of text."""
    p = prediction
    extra = "" if math.isinf(p.theta) else " + 1/(2 theta)"
    lines = [
        f"s* = (sigma^2{extra})/eps^2 = {said(p.s_star)} samples a step, for ||grad|| = {number(p.eps)}",
        f"elbow, T(s) = 2 T(infinity): {said(p.elbow)}, {p.prefactor[0]:.3g} to {p.prefactor[1]:.3g} times s*",
        *([f"  {p.ground}"] if p.ground else []),
        "",
        _heading(p),
        *(_line(p, place) for place in range(len(p.rows))),
        "",
        f"nearly linear (80 % or more) up to {_both(p.linear, p.worker_batch)}",
        f"pays (half or more) up to          {_both(p.pays, p.worker_batch)}",
        f"{LIMIT}; below the elbow T falls faster than this curve",
        "a batch k times as large, at the same eps: alpha_t x sqrt(k), 1 - theta_t x k, v_0 / k, beta as it is",
    ]
    return "\n".join(lines)


def _both(at: Range, each: int) -> str:
    return f"{number(at.low)} to {number(at.high)} samples = {in_workers(at, each)} of {each}"


def _heading(p: Prediction) -> str:
    heading = f"{'workers':>8}{'s':>11}{'T(s)/T(inf)':>22}{'of a perfect speed-up':>24}"
    if p.rows[0].steps is not None:
        heading += f"{'T(s)':>20}"
    if not math.isnan(p.rows[0].bound):
        heading += f"{'T of the bound':>18}"
    return heading


def _line(p: Prediction, place: int) -> str:
    row = p.rows[place]
    ratio = f"{number(row.relative.low)} to {number(row.relative.high)}"
    share = f"{100 * row.share.low:.0f} to {100 * row.share.high:.0f} %"
    line = f"{row.workers:>8,}{row.batch:>11,}{ratio:>22}{share:>24}"
    if row.steps is not None:
        line += f"{number(row.steps.low) + ' to ' + number(row.steps.high):>20}"
    if math.isnan(row.bound):
        return line
    return line + (f"{row.bound:>18.2e}" if math.isfinite(row.bound) else f"{'none':>18}")


def to_plain(prediction: Prediction) -> dict[str, Any]:
    """For --json: no nan and no inf."""
    p = prediction
    ranges = {name: _plain(getattr(p, name)) for name in ("sigma", "s_star", "elbow", "linear", "pays")}
    rows = [
        {
            "workers": row.workers,
            "batch": row.batch,
            "relative_steps": _plain(row.relative),
            "share": _plain(row.share),
            "steps": _plain(row.steps) if row.steps else None,
            "bound_steps": row.bound if math.isfinite(row.bound) else None,
        }
        for row in p.rows
    ]
    theta = None if math.isinf(p.theta) else p.theta
    ground = {"prefactor": list(p.prefactor), "ground": p.ground, "limit": LIMIT}
    return {"schema": 1, "kind": "prediction", "eps": p.eps, "theta": theta, **ranges, **ground, "rows": rows}


def _plain(value: Range) -> dict[str, Any]:
    return {name: part if math.isfinite(part) else None for name, part in value._asdict().items()}
