"""What a report holds and in which order: the verdict first, then the pictures, then what they rest on."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import isnan

from hvd_adam.study.analysis import REACHED, Analysis, CellResult, Series
from hvd_adam.study.collect import AT_START, CENSORED, FAILED, MISSING, UNREADABLE
from hvd_adam.study.estimate import Estimate
from hvd_adam.study.figures import count, interval, percent, ratio, whole
from hvd_adam.study.horizons import HorizonCell, HorizonSeries
from hvd_adam.study.linearity import Test
from hvd_adam.study.pictures import groups_of
from hvd_adam.study.pictures.picture import said
from hvd_adam.study.pictures.steps import told
from hvd_adam.study.regions import DIMINISHING, MAXIMAL, PERFECT, Regions
from hvd_adam.study.report.blocks import Block, Code, Folded, Gallery, Heading, Table, Text, Verdict
from hvd_adam.study.report.method import method
from hvd_adam.study.verdict import verdict
from hvd_adam.terminal import plural

_LISTED = 200  # runs that a table names one by one
_FACTS = ("engine", "device", "cpu", "hosts", "threads", "determinism", "code")


def document(made: Analysis) -> list[Block]:
    """All blocks of a study's report."""
    groups = groups_of(made)
    drawn = [(label, picture) for label, pictures in groups for picture in pictures]
    first = drawn[0] if drawn else ("", None)
    label, hero = next((one for one in drawn if one[1].title == "Steps to the target"), first)
    named = replace(hero, title=f"{hero.title}, {label}") if hero is not None and label else hero
    blocks: list[Block] = [Verdict(str(made.study.name), about(made), verdict(made), named)]
    for label, pictures in groups:
        if label:
            blocks.append(Heading(label))
        shown = [picture for picture in pictures if picture is not hero]
        blocks += [Gallery(shown)] if shown else []
    for series in made.series:
        blocks += list(_figures(series)) if series.linear else []
    for horizons in made.horizons:
        blocks += list(_horizon_figures(horizons))
    return [*blocks, *_cells(made), *_left_out(made), *_again(made), *_surroundings(made), *method(made)]


def about(made: Analysis) -> str:
    """What was studied, in a sentence."""
    study = made.study
    planned = [cell for cell in made.plan.cells if not cell.refused]
    targets = ", then ".join(str(target) for target in study.targets)
    return (
        f"{plural(sum(made.outcomes.values()), 'run')} in {plural(len(planned), 'cell')} of "
        f"{plural(len(study.seeds), 'seed')}. Target, fixed beforehand: {targets}. Mode: {study.mode}.{_share(made)}"
    )


def _share(made: Analysis) -> str:
    """Which test samples were measured, where not all of them were; runs made before the trace said so had all."""
    found = {(facts["test_measured"], facts["test_size"]) for record in made.records
             if "test_measured" in (facts := record.facts)}  # fmt: skip
    told = [f"the first {whole(some)} of {whole(size)} test samples" for some, size in sorted(found) if some < size]
    return f" Test measures: {' or '.join(told)} alone." if told else ""


def _figures(series: Series) -> Iterator[Block]:
    linear, curve, predicted = series.linear, series.hyperbola, series.predicted
    assert linear is not None
    rows = [_row(f"slope of log steps on log {series.axis}", linear.slope, ratio)]
    if series.axis == "batch":
        rows.append(_row("linear up to batch", linear.up_to, whole))
        rows += [
            _row(f"slope from batch {one.start:,} to {one.end:,} ({one.kind})", one.slope, ratio)
            for one in series.stretches
        ]
        if curve is not None and curve.reported:
            rows += [_row("critical batch B_crit, samples", curve.critical), _row("fewest steps S_min", curve.floor)]
        if series.noise is not None and series.noise.noise is not None:
            noise = series.noise.noise
            how = f"gradient norms of {said(series, series.noise)}, second half of its runs; Fieller's interval"
            rows.append(
                (
                    "gradient noise scale, samples",
                    count(noise.scale.value),
                    interval(noise.scale),
                    f"{noise.steps} steps",
                    how,
                )
            )
        if predicted is not None:
            how = "noise scale times 0.3 to 5: where T = 2 T(infinity) was found on problems with a known answer"
            rows.append(("elbow, predicted, samples", count(predicted.value), interval(predicted), "", how))
    yield Heading(f"Figures, {series.label}" if series.label else "Figures")
    yield Table(("figure", "estimate", "95 % interval", "n", "how it was found"), rows, words=frozenset({0, 4}))
    tests = [linear.from_one, linear.bends] if series.axis == "batch" else [linear.bends]
    tests += [curve.fits] if curve is not None else []
    told = [(test.question, _chance(test.p), _statistic(test), str(test.n)) for test in tests]
    if series.goodness is not None:
        fit = series.goodness
        told += [
            ("log T normal about the cell's mean (Shapiro-Wilk)", _chance(fit.normal), "", str(fit.n)),
            ("one spread of log T for all cells (Brown-Forsythe)", _chance(fit.equal), "", str(fit.n)),
        ]
    yield Table(("test", "p", "statistic", "n"), told)
    if series.goodness is not None:
        yield Text([f"Fit of the model: {series.goodness}."])
    if series.regions is not None:
        yield _regions(series, series.regions)


def _horizon_figures(horizons: HorizonSeries) -> Iterator[Block]:
    """Slope, range and the T of each batch, with how they were found and how well the line fits there."""
    rows = [_row("slope of log T on log batch", horizons.slope, ratio)] if horizons.slope else []
    rows += [_row("linear up to batch", horizons.up_to, whole)] if horizons.up_to else []
    for one in horizons.cells:
        if one.crossing is not None:
            rows.append(_row(f"T of batch {whole(one.cell.batch)}, steps", one.crossing.steps))
    if not rows:
        return
    yield Heading(f"Figures, {horizons.label}" if horizons.label else "Figures")
    yield Table(("figure", "estimate", "95 % interval", "n", "how it was found"), rows, words=frozenset({0, 4}))
    misfits = [one.crossing.lack_of_fit for one in horizons.cells if one.crossing is not None]
    known = [value for value in misfits if not isnan(value)]
    if known:
        yield Text([
            f"Fit of the lines: the largest distance of a horizon's mean from its line is {max(known):.2g} standard "
            f"errors, over {plural(len(known), 'batch').replace('batchs', 'batches')}; above 3 or so the horizons lie "
            "too far apart for a line."
        ])  # fmt: skip


def _regions(series: Series, zones: Regions) -> Table:
    """Shallue's three regions: where each begins and ends, and which cells lie in it, surely or not."""
    borders = ["0", *(f"{count(one.estimate)} ({interval(one)})" for one in (zones.perfect, zones.maximal)), "no end"]
    rows = []
    for i, name in enumerate((PERFECT, DIMINISHING, MAXIMAL)):
        inside = [cell for cell in series.cells if zones.of(cell.cell.batch) == name]
        sure = [said(series, cell) for cell in inside if zones.sure(cell.cell.batch)]
        unsure = [said(series, cell) for cell in inside if not zones.sure(cell.cell.batch)]
        rows.append((name, borders[i], borders[i + 1], ", ".join(sure) or "none", ", ".join(unsure) or "none"))
    head = (
        "region",
        "from batch (95 % interval)",
        "to batch (95 % interval)",
        "cells surely in it",
        "cells likely in it",
    )
    return Table(head, rows, "Regions of Shallue et al. 2019, by the fitted hyperbola", frozenset({0, 3, 4}))


def _statistic(test: Test) -> str:
    return "" if isnan(test.p) else f"F({test.df[0]:g}, {test.df[1]:g}) = {test.statistic:.3g}"


def _chance(p: float) -> str:
    return "unknown" if isnan(p) else f"{p:.2g}" if p >= 1e-4 else "below 0.0001"


def _row(name: str, found: Estimate, write=count) -> tuple[str, ...]:  # type: ignore[no-untyped-def]
    ends = "single run" if found.n == 1 else interval(found, write)
    return name, write(found.estimate), ends, str(found.n), found.method


def _cells(made: Analysis) -> Iterator[Block]:
    yield Heading("Cells")
    head = (
        "cell",
        "workers",
        "batch",
        "ranks",
        "steps to the target",
        "samples over the start's",
        "reached",
        "runs",
        "met at each horizon" if made.horizons else "not reached",
    )
    rows = [_cell(series, cell) for series in made.series for cell in series.cells]
    rows += [_horizon_cell(one, made) for horizons in made.horizons for one in horizons.cells]
    refused = [
        (c.name, whole(c.workers), whole(c.batch), str(c.ranks), "", "", "", "0", f"refused: {c.refused}")
        for c in made.plan.cells
        if c.refused
    ]
    yield Table(head, [*rows, *refused], words=frozenset({0, 8}))


def _cell(series: Series, one: CellResult) -> tuple[str, ...]:
    cell = one.cell
    excess = series.linear.excess.get(cell.group) if series.linear else None
    if one.reach is None:
        steps = "unknown"
    elif one.lower_bound is not None:
        steps = f"more than {whole(one.lower_bound)}"
    else:
        steps = f"{count(one.reach.steps.estimate)} ({interval(one.reach.steps)})"
    rest = ", ".join(f"{number} {kind}" for kind, number in sorted(one.outcomes.items()) if kind != REACHED)
    share = (
        f"{percent(one.reach.reached.estimate)} ({interval(one.reach.reached, percent)})" if one.reach else "unknown"
    )
    over = "" if excess is None else f"{ratio(excess.estimate)} ({interval(excess, ratio)})"
    if len(one.records) == 1:
        steps, over = f"{steps.split(' (')[0]}, single run", over.split(" (")[0]
    return (
        cell.name,
        whole(cell.workers),
        whole(cell.batch),
        str(cell.ranks),
        steps,
        over,
        share,
        str(len(one.records)),
        rest,
    )


def _horizon_cell(one: HorizonCell, made: Analysis) -> tuple[str, ...]:
    """One batch at all its horizons: how many of the runs of each had the target at their end."""
    cell = one.cell
    runs = [record for record in made.records if record.cell.group == cell.group]
    by_horizon: dict[int, list[str]] = {}
    for record in runs:
        by_horizon.setdefault(record.cell.horizon or 0, []).append(record.outcome)
    met = [f"T {whole(T)}: {kinds.count(REACHED)} of {len(kinds)}" for T, kinds in sorted(by_horizon.items())]
    other = Counter(record.outcome for record in runs if record.outcome not in (REACHED, CENSORED))
    rest = ", ".join(f"{number} {kind}" for kind, number in sorted(other.items()))
    steps = "unknown"
    if one.crossing is not None:
        steps = f"{count(one.crossing.steps.estimate)} ({interval(one.crossing.steps)})"
    share = f"{sum(record.outcome == REACHED for record in runs)} of {len(runs)}"
    told = "; ".join([*met, rest] if rest else met)
    return cell.group, whole(cell.workers), whole(cell.batch), str(cell.ranks), steps, "", share, str(len(runs)), told


def _left_out(made: Analysis) -> Iterator[Block]:
    yield Heading("Censored, failed, missing")
    silent = [record for record in made.records if record.outcome in (AT_START, FAILED, MISSING, UNREADABLE)]
    rows = [(record.run.place, record.outcome, _first_line(record.reason)) for record in silent]
    for cell in made.cells:
        short = [passage for passage in cell.passages if not passage.reached]
        rows += [(f"{cell.cell.name}/seed-{p.seed}", "diverged" if p.diverged else "censored", told(p)) for p in short]
    rows += [(place, "left aside", "the study plans no such run") for place in made.strangers]
    if not rows:
        reached = "" if made.horizons else " and reached the target"  # in theory mode a run ends at its horizon
        yield Text([f"None: every planned run has a result{reached}."])
        return
    kinds = Counter(kind for _, kind, _ in rows)
    yield Text([
        "A censored run counts as one that needs more steps than its budget had. A diverged run never reaches: it has "
        "no number of steps, and counts in the share that reaches. Failed, missing and unreadable runs say nothing "
        "and are in no figure: "
        + ", ".join(f"{number:,} {kind}" for kind, number in sorted(kinds.items())) + "."
    ])  # fmt: skip
    table = Table(("run", "outcome", "why"), rows[:_LISTED], words=frozenset({0, 1, 2}))
    yield table if len(rows) <= 12 else Folded(f"All {min(len(rows), _LISTED):,} of {len(rows):,} runs", [table])


def _first_line(reason: str) -> str:
    return reason.splitlines()[0] if reason else ""


def _again(made: Analysis) -> Iterator[Block]:
    yield Heading("Run it again")
    yield Text([
        "Each run alone, in any folder; the same steps on any number of ranks where determinism is exact. K is a seed. "
        "Times are those of the ranks in the table: start them with launchers/mpirun -n RANKS -- in front."
    ])  # fmt: skip
    lines = [
        f"hvd-adam train {shlex.quote(made.place)}/{cell.name}/seed-K/config.yaml --run NEW"
        for cell in made.plan.cells
        if cell.runs
    ]
    code = Code("\n".join(lines[:_LISTED]))
    yield code if len(lines) <= 12 else Folded(f"The commands of {plural(min(len(lines), _LISTED), 'cell')}", [code])
    yield Text(["The whole study, and this report:"])
    yield Code(f"hvd-adam study run {shlex.quote(made.place)}/study.yaml --folder NEW\nhvd-adam study report NEW")
    yield Folded("The study file", [Code(made.study.to_yaml().rstrip())])


def _surroundings(made: Analysis) -> Iterator[Block]:
    yield Heading("Surroundings")
    found: dict[str, Counter[str]] = {}
    for record in made.records:
        versions = record.facts.get("versions", {})
        facts = {**{key: record.facts.get(key) for key in _FACTS}, **versions}
        for key, value in facts.items():
            if value is not None:
                found.setdefault(key, Counter())[_plain(value)] += 1
    rows = [
        (key, value, plural(number, "run")) for key, values in found.items() for value, number in values.most_common(8)
    ]
    yield (
        Table(("fact", "value", "runs"), rows, words=frozenset({0, 1, 2}))
        if rows
        else Text(["No run has left a trace."])
    )
    settings = _settings(made)
    if settings:
        yield Folded(
            "Environment variables that the runs shared", [Code("\n".join(f"{k}={v}" for k, v in settings.items()))]
        )


def _settings(made: Analysis) -> dict[str, str]:
    """Variables that all runs shared; those by which Open MPI tells one job from another are of no use to anyone."""
    several = [
        record.facts["environment"] for record in made.records if isinstance(record.facts.get("environment"), dict)
    ]
    if not several:
        return {}
    return {
        key: str(value) for key, value in sorted(several[0].items()) if all(one.get(key) == value for one in several)
    }


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"{name} x {number}" if number > 1 else str(name) for name, number in Counter(value).items())
    return value if isinstance(value, str) else json.dumps(value)
