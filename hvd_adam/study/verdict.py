"""What a study says, in sentences: the first one is the answer, each figure carries n and an interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isfinite, isnan

from hvd_adam.study.analysis import CENSORED, DIVERGED, REACHED, Analysis, CellResult, Series
from hvd_adam.study.collect import AT_START, FAILED, MISSING, UNREADABLE
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.figures import (
    count,
    figure,
    interval,
    listed,
    node_time,
    percent,
    ratio,
    seconds,
    through,
    whole,
)
from hvd_adam.study.horizons import HorizonSeries
from hvd_adam.study.linearity import EXCESS, percent_fewer
from hvd_adam.study.tuning import is_conditional
from hvd_adam.terminal import plural

LEAD, PLAIN, WARNING = "lead", "plain", "warning"
_TOLD = {
    CENSORED: "ended their budget before the target (censored)",
    DIVERGED: "diverged",
    AT_START: "met the target at step 0: they say nothing of scaling",
    FAILED: "failed",
    MISSING: "have no result yet",
    UNREADABLE: "cannot be read",
}


@dataclass(frozen=True)
class Sentence:
    """One sentence or two that belong together; `tone` is lead, plain or warning."""

    text: str
    tone: str = PLAIN


def verdict(made: Analysis) -> tuple[Sentence, ...]:
    """All sentences of a study; the lead of its first series comes first."""
    found = [sentence for series in made.series for sentence in _of_series(series, str(made.target))]
    found += [sentence for horizons in made.horizons for sentence in _of_horizons(horizons, str(made.target))]
    for target, several in made.others:
        found += [_other(series, str(target)) for series in several]
    found += list(_tuning(made))
    found += list(_runs(made))
    return tuple(found)


def _of_horizons(series: HorizonSeries, target: str) -> Iterator[Sentence]:
    name = f"{series.label}: " if series.label else ""
    if series.slope is None:
        yield Sentence(f"{name}No slope can be given: the horizons do not bracket {target} in every cell.", LEAD)
    else:
        slope = f"slope {ratio(series.slope.estimate)}{_ends(series.slope)}, n = {series.slope.n}"
        yield Sentence(f"{name}Theory mode, one run for each horizon and seed: {slope}; -1 is linear.", LEAD)
    if series.up_to is not None:
        last = whole(max(one.cell.batch for one in series.cells))
        end = f"95 % interval {interval(series.up_to, whole)}, n = {series.up_to.n}; the study ends at {last}"
        yield Sentence(f"{name}Linear up to batch {whole(series.up_to.estimate)} ({end}).")
    for one in series.cells:
        where = f"{name}{'batch' if name else 'Batch'} {whole(one.cell.batch)}: "
        if one.crossing is None:
            yield Sentence(f"{where}no T, since {one.why_not}.", WARNING)
        else:
            yield Sentence(f"{where}{target} after {figure(one.crossing.steps)} steps.")


def place(series: Series, position: float) -> str:
    """A point of the axis in words: workers with their batch where each worker's share is the same.

    >>> place(series, 256.0)  # doctest: +SKIP
    '8 workers (batch 256)'
    """
    if not isfinite(position):
        return count(position)
    if series.axis == "workers":
        return plural(int(position), "worker")
    workers = {cell.cell.workers for cell in series.cells if cell.cell.batch == position}
    if one_local_batch(series) and len(workers) == 1:
        return f"{plural(workers.pop(), 'worker')} (batch {whole(position)})"
    return f"batch {whole(position)}"


def one_local_batch(series: Series) -> bool:
    """Whether all cells deal the same share to each worker, so that workers and batch are one axis."""
    return len({cell.cell.batch / cell.cell.workers for cell in series.cells}) == 1


def _of_series(series: Series, target: str) -> Iterator[Sentence]:
    name = f"{series.label}: " if series.label else ""
    if series.linear is None:
        bounds = "; ".join(_bound(cell, series) for cell in series.cells if cell.lower_bound is not None)
        yield Sentence(
            f"{name}No slope can be given: {series.why_not}." + (f" {_capital(bounds)}." if bounds else ""), LEAD
        )
        return
    if not series.reached:
        yield Sentence(
            f"{name}No run reached {target} within its budget, so neither slope nor critical batch is known.", LEAD
        )
        bounds = "; ".join(_bound(cell, series) for cell in series.cells if cell.lower_bound)
        if bounds:
            yield Sentence(f"Lower bounds: {bounds}.")
        return
    yield Sentence(name + (_control(series) if series.axis == "workers" else _linear(series)), LEAD)
    yield from _shape(series)
    if series.axis == "batch":
        yield from _critical(series)
        yield from _regions(series)
    yield from _seconds(series)
    if series.goodness is not None and series.goodness.doubtful:
        yield Sentence(
            f"{name}The model's fit is in doubt: {series.goodness}. What intervals then cover: docs/validity.md.",
            WARNING,
        )


def _seconds(series: Series) -> Iterator[Sentence]:
    """What nodes buy in seconds; nothing where no run was timed."""
    pace = series.pace
    if pace is None:
        return
    if pace.choice is None:
        ranks = sorted({cell.cell.ranks for cell in series.cells})
        told = plural(ranks[0], "rank") if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]} ranks"
        yield Sentence(f"In seconds nothing is said of more nodes: the workers shared {told}.")
        return
    fast, cheap, both = pace.choice.fastest, pace.choice.cheapest, pace.choice.cheap_and_fast
    nodes = plural(fast.nodes, "node")
    waiting = pace.predicted[fast.name].waiting if pace.is_predicted(fast) else pace.waiting[fast.name]
    most = max(cell.cell.workers for cell in series.cells)
    untold = sorted({cell.cell.workers for cell in series.cells} - {option.nodes for option in pace.options})
    lead = "In seconds one node is the fastest" if fast.nodes == 1 else f"In seconds it pays up to {nodes}"
    end = ", as far as the study goes" if fast.nodes == most else ""
    how = "predicted" if pace.is_predicted(fast) else "measured"
    rivals = f" Not told apart from it: {listed([whole(n) for n in pace.choice.rivals])}." if pace.choice.rivals else ""
    yield Sentence(
        f"{lead}{end}: {seconds(fast.seconds.estimate)} to the target ({how}, {interval(fast.seconds, seconds)}, "
        f"n = {fast.seconds.n}), and {percent(waiting)} of a step is waiting.{rivals}"
    )
    if untold:
        yield Sentence(f"Nothing is known of the seconds of {listed([whole(n) for n in untold])} nodes.")
    if both is fast and cheap is fast:
        told = f"({interval(cheap.node_hours, node_time)}, n = {cheap.node_hours.n})"
        yield Sentence(f"That is the cheapest, too: {node_time(cheap.node_hours.estimate)} {told}.")
        return
    yield Sentence(
        f"Cheapest within 10 % of the fastest: {plural(both.nodes, 'node')}, {node_time(both.node_hours.estimate)} "
        f"({interval(both.node_hours, node_time)}, n = {both.node_hours.n}); cheapest of all: "
        f"{plural(cheap.nodes, 'node')}."
    )


def _linear(series: Series) -> str:
    linear = series.linear
    assert linear is not None
    last = max(series.position(cell.cell) for cell in series.cells)
    end = linear.up_to.estimate
    if isnan(end):
        return "How far it is linear is not known."
    if end == last:
        slope = f"{_slope(series)}, {_seeds(series)}"
        sure = "" if linear.up_to.low >= end else f"; for sure up to batch {whole(linear.up_to.low)}"
        return f"Linear up to {place(series, end)}, as far as the study goes{sure}: {slope}."
    told = f"95 % interval {interval(linear.up_to, whole)}, {_seeds(series)}"
    if end == series.position(series.cells[0].cell):
        shown = "Not linear" if linear.up_to.high <= end else "Not shown to be linear"
        return f"{shown} beyond {place(series, end)}, where the study begins; {told}."
    where = place(series, end).removesuffix(")")
    return f"Linear up to {where}; {told})." if "(" in where else f"Linear up to {where} ({told})."


def _control(series: Series) -> str:
    linear = series.linear
    assert linear is not None
    slope = linear.slope
    holds = slope.covers(0.0)
    batch = series.cells[0].cell.batch
    told = "as it must be: workers that share one batch change nothing" if holds else "and it should hold 0"
    return (
        f"Negative control, batch {whole(batch)} in every cell: slope against workers "
        f"{ratio(slope.estimate)}{_ends(slope)}, {_seeds(series)}; 0 lies {'within' if holds else 'outside'}, {told}."
    )


def _shape(series: Series) -> Iterator[Sentence]:
    linear = series.linear
    assert linear is not None
    if series.axis == "workers":
        return
    first, last = series.cells[0].cell, series.cells[-1].cell
    if linear.up_to.estimate != series.position(last):
        yield Sentence(
            f"Over all cells, batch {whole(first.batch)} to {whole(last.batch)}: {_slope(series)}, "
            f"n = {linear.slope.n}; -1 would be linear."
        )
    fast = [one for one in series.stretches if one.kind == "super-linear"]
    if fast:
        told = listed([f"{whole(one.start)} to {whole(one.end)} ({ratio(one.slope.estimate)})" for one in fast])
        yield Sentence(
            f"Super-linear from batch {told}: real, not a failure of linearity; "
            f"intervals hold for all {len(series.stretches)} stretches at once."
        )
    after = series.after
    if after is not None and not after.open and linear.up_to.estimate < series.position(last):
        saved = through(percent_fewer(after), lambda hundredths: hundredths / 100)
        fewer = "fewer" if saved.estimate >= 0 else "more"
        size = saved if saved.estimate >= 0 else through(saved, lambda share: -share)
        yield Sentence(
            f"From {place(series, linear.up_to.estimate)} on, doubling buys {percent(size.estimate)} {fewer} steps "
            f"({interval(size, percent)}, n = {size.n}); linear would be 50 %{' fewer' if fewer == 'more' else ''}."
        )
    worst = series.cells[-1]
    excess = linear.excess.get(worst.cell.group)
    if excess is not None and isfinite(excess.estimate) and excess.low > EXCESS:
        yield Sentence(
            f"At {place(series, series.position(worst.cell))} a run needs {ratio(excess.estimate)} times the samples "
            f"of the start ({interval(excess, ratio)}, n = {excess.n})."
        )


def _critical(series: Series) -> Iterator[Sentence]:
    curve = series.hyperbola
    predicted = series.predicted
    told = ""
    if curve is None:
        told = "No critical batch is given: a hyperbola needs three batches with runs that reach."
    elif not curve.reported:
        told = (
            f"No critical batch is given: the cells contradict a hyperbola "
            f"(lack of fit, p = {curve.fits.p:.2g}, n = {curve.fits.n})."
        )
    elif curve.critical.estimate == inf:
        beyond = curve.critical.low >= max(cell.cell.batch for cell in series.cells)
        what = "lies beyond this study" if beyond else "has no upper bound"
        told = f"The critical batch {what}: above {count(curve.critical.low)} (n = {curve.critical.n})."
    else:
        told = f"Critical batch {count(curve.critical.estimate)} ({interval(curve.critical)}, n = {curve.critical.n})."
    if predicted is not None:
        ends = f"{count(predicted.low)} to {count(predicted.high)}"
        found = f"predicted {ends} from the gradient noise scale of the same runs"
        told = f"{told.rstrip('.')}; {found}{_agreement(series)}."
    yield Sentence(told)


def _regions(series: Series) -> Iterator[Sentence]:
    """Where the regions of Shallue et al. 2019 meet; nothing where no border is bounded on both sides."""
    zones = series.regions
    if zones is None or zones.perfect.open:
        return
    told = []
    for words, border in (("perfect scaling ends", zones.perfect), ("maximal parallelism begins", zones.maximal)):
        unseen = "" if zones.seen(border.estimate) else "; not seen"
        told.append(f"{words} at {count(border.estimate)} ({interval(border)}{unseen}, n = {border.n})")
    yield Sentence(f"By that curve {' and '.join(told)} samples a step.")


def _agreement(series: Series) -> str:
    curve, predicted = series.hyperbola, series.predicted
    if curve is None or predicted is None or not curve.reported or not isfinite(curve.critical.estimate):
        return ""
    if curve.critical.high < predicted.low or curve.critical.low > predicted.high:
        return ": the two disagree"
    return ""


def _bound(cell: CellResult, series: Series) -> str:
    where = place(series, series.position(cell.cell))
    assert cell.lower_bound is not None
    return f"{where}, more than {whole(cell.lower_bound)} steps (n = {len(cell.passages)})"


def _other(series: Series, target: str) -> Sentence:
    name = f"{series.label}, " if series.label else ""
    if series.linear is None or not series.reached:
        return Sentence(f"For {name}{target}: no slope; {series.reached} runs reached it.")
    linear = series.linear
    up_to = "" if isnan(linear.up_to.estimate) else f", linear up to {place(series, linear.up_to.estimate)}"
    return Sentence(f"For {name}{target}: slope {figure(linear.slope, ratio)}{up_to}.")


def _tuning(made: Analysis) -> Iterator[Sentence]:
    if not made.picks:
        return
    fitted = [series for series in made.series if series.linear is not None]
    curves = [series.hyperbola for series in fitted if series.hyperbola is not None]
    told = (
        "the intervals of slope, range, samples and critical batch hold what picking adds, by tuning repeated on "
        "resampled seeds; those of steps, stretches and seconds take the picks as they are"
    )
    if any(series.picks is None for series in fitted):
        told = "no interval holds that: all are conditional on the picks"
    elif any(is_conditional(curve.critical) for curve in curves):
        told += ", but for critical batch and regions: these are conditional on the picks, some cells having no mean"
    seeds = plural(made.study.lr.tuning_seeds, "seed")
    yield Sentence(
        f"The learning rate was picked for each batch on {seeds} of its own. A wrong pick moves all seeds of a cell; "
        f"{told}."
    )


def _runs(made: Analysis) -> Iterator[Sentence]:
    outcomes = made.outcomes
    total = sum(outcomes.values())
    silent = (CENSORED,) if made.horizons else ()  # in theory mode a run ends at its horizon, wherever the target is
    told = [f"{outcomes[kind]:,} {words}" for kind, words in _TOLD.items() if outcomes[kind] and kind not in silent]
    if told:
        yield Sentence(
            f"Of {plural(total, 'run')}, {outcomes[REACHED]:,} reached the target; {'; '.join(told)}.", WARNING
        )
    gone = [cell.cell.name for cell in made.cells if cell.records and not cell.passages]
    if gone:
        yield Sentence(f"No figure for {listed(gone)}: none of their runs can be used.", WARNING)
    if len(made.study.seeds) == 1:
        yield Sentence("Each cell is a single run, which says nothing of the spread of runs: set seeds: 5.", WARNING)
    if made.strangers:
        yield Sentence(
            f"{plural(len(made.strangers), 'run directory')} here belong to no cell of this study and were left aside: "
            f"{listed(list(made.strangers), 3)}.".replace("directorys", "directories"),
            WARNING,
        )
    elsewhere = [record for record in made.records if record.elsewhere]
    if elsewhere:
        yield Sentence(
            f"Begun on another number of ranks than the study now says: {plural(len(elsewhere), 'run')}, whose steps "
            "count, and whose seconds do not.",
            WARNING,
        )
    for warning in made.plan.warnings:
        if not warning.startswith("one seed"):
            yield Sentence(f"{warning}.", WARNING)


def _slope(series: Series) -> str:
    """The slope; where a cell bounds it on one side alone, that bound and what a straight line would make of it."""
    linear = series.linear
    assert linear is not None
    if isfinite(linear.slope.estimate) or series.line is None:
        return f"slope {ratio(linear.slope.estimate)}{_ends(linear.slope)}"
    line = f"{ratio(series.line.estimate)}{_ends(series.line)} if the line is straight"
    return f"slope {interval(linear.slope, ratio)}, since not every cell bounds it; {line}"


def _ends(found: Estimate) -> str:
    if found.low == -inf and found.high == inf:
        return " (no interval: too few runs)" if "one seed" in found.method else " (not bounded)"
    return f" ({100 * found.level:g} % interval {interval(found, ratio)})"


def _seeds(series: Series) -> str:
    numbers = sorted({len(cell.passages) for cell in series.cells} - {0})
    if numbers == [1]:
        return "a single run in each cell"
    return f"{numbers[0]} seeds a cell" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds a cell"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
