"""What a terminal shows of a study: every figure whole, every word as it is, and the cells at work."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hvd_adam import terminal
from hvd_adam.commands.study import _total
from hvd_adam.commands.study_results import _say
from hvd_adam.study.analysis import analyse
from hvd_adam.study.costs import UnitCosts, costs
from hvd_adam.study.execute import Ended
from hvd_adam.study.figures import percent, ratio, seconds
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import plan
from hvd_adam.study.progress import Progress
from hvd_adam.study.tables import Standing, live_table, plan_table
from tests.made_study import make, study_of

REASON = "cannot open [/dev/shm/hvd_adam] at x.cpp:smile: [enforce fail] err == 0"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def fails(folder: Path, place: str, reason: str = REASON) -> None:
    shutil.rmtree(folder / place, ignore_errors=True)
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "failed", "run": place, "attempt": 1, "reason": reason}) + "\n")


def shown(thing: Any, width: int = 80, height: int = 24) -> list[str]:
    console = terminal.console()
    console.size = (width, height)
    with console.capture() as caught:
        console.print(thing)
    return caught.get().splitlines()


@pytest.mark.parametrize("width", [66, 80])
def test_a_plan_on_a_narrow_terminal_folds_long_names_and_cuts_no_figure(width: int) -> None:
    algorithms = [{"name": "adam", "lr": 0.001, "theta": theta} for theta in (0.99, 0.999)]
    study = study_of(grid={"workers": [1, 128], "algorithm": algorithms}, budget={"steps": 20_000_000})
    made = plan(study)
    found = costs(study, made, {cell.group: UnitCosts(1.25e-3) for cell in made.cells})
    lines = shown(plan_table(found), width)
    text = "\n".join(lines)
    assert "…" not in text and max(map(len, lines)) <= width
    assert [text.count(word) for word in ("workers ", "node-hours", "20,000,000", "1,024 ", "1.25")] == [1, 1, 4, 2, 4]
    names = "".join(line[: lines[1].index("workers")].strip() for line in lines)
    assert all(cell.name in names for cell in made.cells)


def test_brackets_and_colons_of_an_error_are_shown_as_they_are(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(seeds=2), lines=3)
    fails(folder, "workers-4/seed-1")
    code, said, err = call("study", "status", folder)
    assert code == 0 and not err
    assert said.count(REASON) == 2  # in the table, and below it


def test_an_error_with_brackets_does_not_end_the_study_that_a_terminal_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(seeds=2)
    folder = make(tmp_path / "s", study, lines=3)
    fails(folder, "workers-4/seed-1")
    made, stream = plan(study), Terminal()
    run = next(run for run in made.runs if run.place == "workers-4/seed-1")
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    with Progress(Folder(folder)) as progress:
        progress.show(made, None)
        progress.tell(f"note: {REASON}")
        progress.show(made, Ended(run, REASON))
        progress._live.refresh()
    assert f"note: {REASON}" in stream.getvalue() and f"1: {REASON}" in stream.getvalue()
    assert "1 of 10 runs left" in stream.getvalue()


def test_a_terminal_too_low_for_all_cells_shows_those_at_work_and_how_many_runs_are_left(tmp_path: Path) -> None:
    study = study_of(grid={"workers": list(range(1, 31))}, seeds=1)
    folder = make(tmp_path / "s", study, lines=3)
    for workers in (25, 27, 30):
        shutil.rmtree(folder / f"workers-{workers}/seed-0")
    fails(folder, "workers-29/seed-0", "a long reason " * 40)
    console = terminal.console()
    console.size = (80, 24)
    place = Folder(folder)
    lines = shown(live_table(plan(study), Standing(place), place.failures(), console))
    assert len(lines) <= 23 and lines[0] == "4 of 30 runs left; 9 of 30 cells not shown"
    names = [line.split()[0] for line in lines[2:]]
    assert {"workers-25", "workers-27", "workers-29", "workers-30"} <= set(names)
    assert names == sorted(names, key=lambda name: int(name.rpartition("-")[2]))  # in the order of the plan


def test_cells_on_many_ranks_are_at_work_before_those_on_few(tmp_path: Path) -> None:
    study = study_of(grid={"workers": [1, 2, 4, 8, 16, 32]}, seeds=1, ranks=32)
    place = Folder(tmp_path)
    console = terminal.console()
    console.size = (80, 5)
    lines = shown(live_table(plan(study), Standing(place), {}, console))
    assert [line.split()[0] for line in lines[2:]] == ["workers-16", "workers-32"]


def test_text_is_as_wide_as_the_terminal_and_100_columns_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Terminal())
    found = []
    for columns in ("60", "80", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        found.append(terminal.columns())
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert [*found, terminal.columns()] == [60, 80, 100, 100]


def test_a_verdict_wraps_where_the_terminal_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = analyse(Folder(make(tmp_path / "s", study_of(seeds=3), lines=3)))
    _say(made)
    assert 80 < max(map(len, capsys.readouterr().out.splitlines())) <= 100
    monkeypatch.setattr("hvd_adam.terminal.columns", lambda: 60)
    _say(made)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


@pytest.mark.parametrize(
    ("written", "as_it_reads"),
    [
        (ratio(-0.004), "0.00"),
        (ratio(-0.006), "-0.01"),
        (percent(-0.004), "0 %"),
        (seconds(0.9996), "1 s"),  # no 1e+03 ms
        (seconds(0.0009999), "1 ms"),
        (seconds(119.96), "2 min"),
        (seconds(7199.9), "2 h"),
        (seconds(3.7e6), "1,030 h"),  # no 1.03e+03 h
        (seconds(2e-7), "0.2 µs"),
    ],
)
def test_a_figure_has_no_power_of_ten_no_unit_too_small_and_no_sign_before_zero(written: str, as_it_reads: str) -> None:
    assert written == as_it_reads


def test_a_plan_of_slow_cells_writes_its_cost_without_powers_of_ten() -> None:
    study = study_of(grid={"workers": [1, 2]})
    made = plan(study)
    found = costs(study, made, {cell.group: UnitCosts(2.7) for cell in made.cells})
    said = "\n".join((*shown(plan_table(found)), _total(found)))
    assert "2,700" in said and "e+" not in said
