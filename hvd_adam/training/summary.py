"""The few lines that stand at the end of a run."""

from __future__ import annotations

from hvd_adam.terminal import plural
from hvd_adam.training.result import Result

_NAMES = {
    "data": "reading data",
    "forward": "forward",
    "backward": "backward",
    "wait": "waiting for the average",
    "step": "the optimizer's step",
}


def summarise(result: Result, test: int | None = None) -> str:
    """What came of it, how fast, where the time went, and what to do next.

    Args:
        test: how many test samples were measured; None: all of them.
    """
    total = sum(result.seconds.values())
    lines = [_outcome(result, test)]
    rate = f", {result.samples / total:,.0f} samples a second" if total > 0 else ""
    carried = f"{plural(result.workers, 'worker')} on {plural(result.ranks, 'rank')}"
    lines.append(f"{carried}, {plural(result.samples, 'sample')}{rate} (single run)")
    if total > 0:
        shares = ", ".join(f"{name} {100 * seconds / total:.0f} %" for name, seconds in result.seconds.items())
        largest = max(result.seconds, key=lambda name: result.seconds[name])
        lines.append(f"time: {total:.1f} s; {shares}; the largest part is {_NAMES[largest]}")
    if result.skipped:
        skipped = plural(result.skipped, "step")
        lines.append(f"{skipped} skipped: the gradients were not finite, or too large for the wire")
    lines.append(f"everything is in {result.path}")
    if result.stopped:
        lines.append("next: the same command with --resume goes on from here")
    return "\n".join(lines)


def _outcome(result: Result, test: int | None) -> str:
    if result.stopped:
        return f"stopped at step {result.step}, saved"
    value = result.measures.get(result.target)
    on = "the test data" if test is None else f"the first {plural(test, 'test sample')}"
    shown = "no evaluation" if value is None else f"{result.target} {value:.4g} on {on}"
    if result.target == "accuracy" and value is not None:
        shown = f"accuracy {100 * value:.2f} % on {on}"
    before = "finished before: " if result.status == "done before" else ""
    return f"{before}{shown} after {plural(result.step, 'step')}"
