"""What benchmarks keep: every round, also of one that is interrupted, and why something was left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from test_bench import NoJobs

from hvd_adam.bench import growth
from hvd_adam.cli import cli


def interrupted_after(turns: int) -> type[NoJobs]:
    """Jobs that are interrupted when so many turns of all of them are over."""
    left = iter(range(turns))

    class Interrupted(NoJobs):
        def rounds(self, count: int, *rest: object):
            for turn in super().rounds(count):
                if next(left, None) is None:
                    raise KeyboardInterrupt
                yield turn

    return Interrupted


@pytest.mark.parametrize(
    ("module", "arguments", "turns", "found"),
    [
        ("memory", ["--model", "1e4"], 2, lambda kept: {"1e4": kept["held"][0]["ours"]} == {"1e4": [1, 1]}),
        (
            "allreduce",
            ["--largest", "4K", "--ways", "shared"],
            7,
            lambda kept: kept["seconds"] == {"1024": {"shared": [1.0] * 5}, "4096": {"shared": [1.0] * 2}},
        ),
        (  # a turn is one of two numbers of workers: the third round has only half of them
            "growth",
            ["--model", "lenet", "--parameters", "1e4", "--workers", "1,2"],
            5,
            lambda kept: (
                [(p["ranks"], p["workers"], p["seconds"]) for p in kept["points"]]
                == [(ranks, workers, [1.0] * 2) for workers in (1, 2) for ranks in (1, 2)]
            ),
        ),
    ],
)
def test_every_whole_round_before_an_interrupt_is_kept(
    module: str, arguments: list[str], turns: int, found: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(f"hvd_adam.bench.{module}.Crews", interrupted_after(turns))
    out = tmp_path / "kept.json"
    command = ["bench", {"growth": "scale"}.get(module, module), *arguments, "--rounds", "5", "--out", str(out)]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 130, done.output
    assert f"interrupted: what was measured is in {out}" in done.output
    assert found(json.loads(out.read_text()))


def test_numbers_of_workers_take_turns_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[int] = []

    class Played(NoJobs):
        def rounds(self, count: int, steps: object, size: int = 0, *rest: object):
            played.append(size)
            yield {name: float(len(played)) for name in self.names}

    monkeypatch.setattr(growth, "Crews", Played)
    found = growth.measure(["lenet"], [], [1, 2], [1, 2, 4], 20)
    rounds = [played[i : i + 3] for i in range(0, 60, 3)]
    assert len(played) == 60 and all(sorted(one) == [1, 2, 4] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    for point in found.points:  # each has the seconds of its own turns
        assert list(point.seconds) == [1.0 + i for i, many in enumerate(played) if many == point.workers]


@pytest.mark.parametrize(
    ("arguments", "module", "left_out"),
    [
        (
            ["step", "--model", "1e11", "--peers", "bare"],
            "step",
            lambda kept: (
                set(kept["comparisons"][0]["left_out"].values()) == {"it needs 3,815,297 MB and 1 MB are free"}
            ),
        ),
        (
            ["scale", "--model", "lenet", "--parameters", "1e9"],
            "growth",
            lambda kept: kept["points"] == [] and set(kept["left_out"]) == {"lenet", "1e9"},
        ),
    ],
)
def test_where_memory_holds_nothing_of_it_the_file_says_why(
    arguments: list[str], module: str, left_out: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(f"hvd_adam.bench.{module}.Crews", NoJobs)
    monkeypatch.setattr(f"hvd_adam.bench.{module}.free_memory", lambda: 1 << 20)
    out = tmp_path / "kept.json"
    done = CliRunner().invoke(cli, ["bench", *arguments, "--rounds", "1", "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(out.read_text())
    assert left_out(json.loads(out.read_text()))


@pytest.mark.parametrize(("rounds", "said"), [(4, "medians, without intervals"), (5, "93.75 % intervals")])
def test_the_last_line_says_what_intervals_of_so_many_rounds_hold(
    rounds: int, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("hvd_adam.bench.step.Crews", NoJobs)
    command = ["bench", "step", "--model", "1e4", "--peers", "bare", "--rounds", str(rounds)]
    done = CliRunner().invoke(cli, [*command, "--out", str(tmp_path / "kept.json")])
    assert f"n = {rounds} rounds in random order: {'' if rounds < 5 else 'medians, and '}{said}" in done.output
