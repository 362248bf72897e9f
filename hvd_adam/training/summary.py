"""The few lines that stand at the end of a run."""

from __future__ import annotations

from hvd_adam.training.loop import Result

_NAMES = {
    "data": "reading data",
    "forward": "forward",
    "backward": "backward",
    "wait": "waiting for the average",
    "step": "the optimizer's step",
}


def summarise(result: Result) -> str:
    """What came of it, how fast, where the time went, and what to do next."""
    total = sum(result.seconds.values())
    lines = [_outcome(result)]
    ranks = f"{result.ranks} rank{'s' if result.ranks > 1 else ''}"
    rate = f", {result.samples / total:,.0f} samples a second" if total > 0 else ""
    lines.append(f"{result.workers} workers on {ranks}, {result.samples:,} samples{rate} (single run)")
    if total > 0:
        shares = ", ".join(f"{name} {100 * seconds / total:.0f} %" for name, seconds in result.seconds.items())
        largest = max(result.seconds, key=lambda name: result.seconds[name])
        lines.append(f"time: {total:.1f} s; {shares}; the largest part is {_NAMES[largest]}")
    if result.skipped:
        lines.append(f"{result.skipped} steps were skipped: their gradients were not finite")
    lines.append(f"everything is in {result.path}")
    if result.stopped:
        lines.append("next: the same command with --resume goes on from here")
    return "\n".join(lines)


def _outcome(result: Result) -> str:
    if result.stopped:
        return f"stopped at step {result.step}, saved"
    value = result.measures.get(result.target)
    shown = "no evaluation" if value is None else f"{result.target} {value:.4g} on the test data"
    if result.target == "accuracy" and value is not None:
        shown = f"accuracy {100 * value:.2f} % on the test data"
    before = "finished before: " if result.status == "done before" else ""
    return f"{before}{shown} after {result.step} steps"
