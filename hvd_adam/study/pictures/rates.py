"""The learning rates that were tried for each batch, and the one that was picked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hvd_adam.study.figures import count, figure, whole
from hvd_adam.study.picks import Picks, Tried
from hvd_adam.study.pictures.canvas import Canvas, around
from hvd_adam.study.pictures.picture import Picture


def rates_picture(picks: Sequence[Picks]) -> Picture | None:
    """Factor of the base learning rate against batch; None where nothing was tuned."""
    if not picks:
        return None
    rows = tuple(
        (
            one.group,
            f"x {factor:g}",
            f"{tried.reached} of {tried.made}",
            _steps(tried),
            "picked" if factor == one.picked else "",
        )
        for one in picks
        for factor, tried in one.tried.items()
    )
    best = "; ".join(f"{one.group} x {one.picked:g}" for one in picks if one.picked is not None)
    return Picture(
        "learning-rates",
        "Learning rate picked for each batch",
        "Factor of the base learning rate. Full dots: picked, on seeds of their own. The larger a hollow dot, "
        "the sooner its runs met the target; a dash: none did.",
        f"Learning-rate factors tried against batch; picked: {best}.",
        lambda size: _draw(picks, size),
        (("cell", "factor", "runs that reached", "steps of those that reach", ""), rows),
    )


def _steps(tried: Tried) -> str:
    return figure(tried.steps) if tried.steps is not None and tried.reached else count(math.nan)


def _draw(picks: Sequence[Picks], size: tuple[int, int]) -> Canvas:
    canvas = Canvas(*size)
    batches = sorted({float(one.batch) for one in picks})
    factors = sorted({factor for one in picks for factor in one.tried})
    y = canvas.y(*around(factors, room=0.1), log=True)
    canvas.y_axis(y, "factor of the base learning rate", factors, lambda v: f"{v:g}")
    x = canvas.x(*around(batches, room=0.08), log=True)
    canvas.x_axis(x, "batch (samples a step)", batches, whole)
    for one in picks:
        typical = {factor: tried.steps.estimate for factor, tried in one.tried.items() if tried.steps and tried.reached}
        soonest = min((steps for steps in typical.values() if math.isfinite(steps)), default=math.nan)
        for factor, tried in one.tried.items():
            title = f"{one.group}, x {factor:g}: {tried.reached} of {tried.made} runs reached; {_steps(tried)} steps"
            at = (x(one.batch), y(factor))
            if factor == one.picked:
                canvas.dot(*at, f"{title}; picked", "dot", 6)
            elif math.isfinite(typical.get(factor, math.nan)):
                canvas.dot(*at, title, "open", max(2.0, 5.5 * soonest / typical[factor]))
            else:
                canvas.line([(at[0] - 4, at[1]), (at[0] + 4, at[1])], "axis", title)
    path = [(x(one.batch), y(one.picked)) for one in sorted(picks, key=lambda p: p.batch) if one.picked]
    canvas.line(path, "line thin", opacity=0.5)
    return canvas
