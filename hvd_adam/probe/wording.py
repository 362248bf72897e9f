"""A probe's findings as text for a screen."""

from __future__ import annotations

import math

from hvd_adam.probe.findings import LIMIT, Findings, Stretch
from hvd_adam.probe.grid import suggest
from hvd_adam.theory.elbow import PREFACTOR, Range


def describe(findings: Findings) -> str:
    """Some twenty lines: noise early and late, curvature, the elbow, and the grid."""
    measured, grid = findings.measured, suggest(findings)
    workers = f"{measured.workers} workers x {measured.worker_batch} samples"
    ranks = f"{measured.ranks} rank{'s' if measured.ranks > 1 else ''} ({measured.engine})"
    lines = [
        f"{len(measured.steps)} of {measured.planned_steps} steps in {measured.seconds:.0f} s: "
        f"{workers} on {ranks}, d = {measured.dim:,}; single run",
        "",
        f"{'95 % intervals':30}{'early':>28}{'late':>28}",
        _row("steps", (f"{part.first} to {part.last}" for part in (findings.early, findings.late))),
        _row("training loss, mean", (f"{part.loss:.4g}" for part in (findings.early, findings.late))),
    ]
    for label, name in (
        ("tr Sigma, one sample", "trace"),
        ("||grad||^2", "square"),
        ("noise scale, samples", "scale"),
    ):
        parts = (findings.early, findings.late)
        lines.append(_row(label, (said(getattr(part.noise, name)) for part in parts)))
    lines += ["", *_constants(findings), "", *_elbow(findings), ""]
    more = f" ({grid.why})" if grid.why else ""
    lines.append(
        f"a study that brackets it: workers {grid.workers[0]} to {grid.workers[-1]:,} x {grid.local_batch}{more}"
    )
    lines.append(f"next: hvd-adam study plan {measured.path}/study.yaml")
    lines.append(f"      hvd-adam predict {measured.path}")
    return "\n".join(lines)


def said(value: Range) -> str:
    """1,230 (1,100 to 1,400); in words an open end, and an estimate that noise has put below its range."""
    if math.isinf(value.high):
        return f"at least {number(value.low)}"
    if value.value < value.low:
        return f"at most {number(value.high)}"
    return f"{number(value.value)} ({number(value.low)} to {number(value.high)})"


def number(value: float) -> str:
    """Three digits, no exponent from 0.001 to a million."""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def in_workers(samples: Range, each: int) -> str:
    """The range in workers of `each` samples, one at the least."""
    low, high = (max(1, round(end / each)) if math.isfinite(end) else end for end in (samples.low, samples.high))
    return f"{low:,} workers or more" if math.isinf(high) else f"{low:,} to {high:,} workers"


def _row(label: str, cells: object) -> str:
    return f"{label:30}" + "".join(f"{cell:>28}" for cell in cells)  # type: ignore[attr-defined]


def _constants(findings: Findings) -> list[str]:
    points = findings.measured.curvature
    shown = ", ".join(
        f"none at step {p.step}"
        if p.value is None
        else f"{number(p.value)} at step {p.step}{'' if p.settled else ' (at least)'}"
        for p in points
    )
    lines = [f"largest curvature (L along the path): {shown}"]
    lines += [f"  no curvature: {p.why}" for p in points[:1] if p.value is None]
    lines.append(
        f"G, root mean square of one sample's gradient: at most {number(findings.gradient_bound)} on this path"
    )
    return lines


def _elbow(findings: Findings) -> list[str]:
    each, at = findings.measured.worker_batch, findings.elbow
    aim = "as asked" if findings.asked else "where the late part stands"
    early: Stretch = findings.early
    lines = [
        f"elbow, T(s) = 2 T(infinity), at ||grad|| = {number(findings.eps)} ({aim}):",
        f"  {said(at)} samples a step = {in_workers(at, each)} of {each}",
        f"  (early in training: {said(early.elbow)})",
        f"  {PREFACTOR[0]:g} to {PREFACTOR[1]:g} times the noise scale, and its interval; {LIMIT}",
    ]
    if math.isinf(at.high):
        lines.append(
            "  the late gradient is lost in its noise: more workers, a larger local_batch, or --eps would tell"
        )
    return lines
