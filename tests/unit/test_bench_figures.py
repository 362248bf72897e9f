"""Figures read from what the benchmarks have kept: their goals, their tables, and whether they got worse."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure as Canvas

from hvd_adam.bench import figures, growth, starting
from hvd_adam.bench.names import INSTALLED, LAUNCHER
from hvd_adam.bench.picture import draw
from hvd_adam.errors import ConfigError

ROOT = Path(__file__).parents[2]


def recorded(folder: Path, ours: float, spread: float = 0.0) -> Path:
    """Figures of a step and of starting; `ours` seconds beside peers of one second."""
    rounds = [1.0 - spread, 1.0, 1.0, 1.0, 1.0 + spread]
    rows = [
        {"peer": peer, "surroundings": where, "seconds": [value * t for t in rounds], "memory": 0}
        for peer, value in (("hvd_adam", ours), ("horovod", 1.0)) for where in (LAUNCHER, INSTALLED)
    ]  # fmt: skip
    for row in rows[2:]:
        row["seconds"] = [1.0] * 5
    step = {"kind": "bench step", "comparisons": [{"model": "lenet", "rows": rows}]}
    names = (starting.IMPORT, starting.HELP, starting.CHECK, starting.STEP)
    times = {"kind": "bench start", "ranks": 2, "seconds": {name: [ours] * 5 for name in names}}
    folder.mkdir()
    (folder / "step.json").write_text(json.dumps(step))
    (folder / "start.json").write_text(json.dumps(times))
    return folder


def test_goals_are_held_against_the_right_surroundings(tmp_path: Path) -> None:
    step = figures.figures(recorded(tmp_path / "a", 0.59))[0]
    assert (step.of, step.goal, step.goal_installed) == ("lenet", None, 0.60)
    assert step.installed is not None and step.installed.value == pytest.approx(0.59)
    assert step.met() is True
    assert figures.figures(recorded(tmp_path / "b", 0.61))[0].met() is False


def test_a_ratio_is_worse_where_its_whole_interval_lies_above_the_recorded_one(tmp_path: Path) -> None:
    before = figures.figures(recorded(tmp_path / "before", 0.5, 0.05))
    assert figures.worse(figures.figures(recorded(tmp_path / "better", 0.1)), before) == []
    assert figures.worse(figures.figures(recorded(tmp_path / "alike", 0.53, 0.05)), before) == []
    said = figures.worse(figures.figures(recorded(tmp_path / "worse", 0.6, 0.05)), before)
    assert len(said) == 2  # as installed and in the same environment; slower starts are seconds, and their ratio is 1
    assert said[0] == (
        "training step / stock Horovod + default Adam, lenet, as installed: 0.600 (0.570 to 0.630), "
        "recorded 0.500 (0.475 to 0.525)"
    )


def test_ratios_that_are_not_recorded_are_named(tmp_path: Path) -> None:
    before = figures.figures(recorded(tmp_path / "before", 0.5))
    now = figures.figures(recorded(tmp_path / "now", 0.5))
    assert figures.unmatched(now, before) == []
    assert figures.unmatched(now, [one for one in before if one.of != "lenet"]) == [
        "training step / stock Horovod + default Adam, lenet"
    ]
    assert figures.unmatched(now, []) == [one.name for one in now if one.unit == ""]  # seconds are never compared


def test_the_check_takes_the_exponents_of_parameters_between_the_recorded_ends() -> None:
    spec = importlib.util.spec_from_file_location("table", ROOT / "benchmarks" / "table.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    words = made.COMMANDS["scale"][1].split()
    sizes = [size for option, size in itertools.pairwise(words) if option == "--parameters"]
    for folder in (made.RECORDED, made.RECORDED / "epyc"):
        kept = json.loads((folder / "scale.json").read_text())
        now = figures.READERS["scale"](
            {**kept, "points": [p for p in kept["points"] if p["model"] in (*sizes, "lenet")]}
        )
        assert figures.unmatched(list(now), figures.figures(folder)) == []


def test_an_optimizer_stands_beside_peers_as_installed_and_in_our_environment(tmp_path: Path) -> None:
    times = {
        ("fused", LAUNCHER): 1.0,
        ("fused", INSTALLED): 1.25,
        ("default", LAUNCHER): 2.0,
        ("default", INSTALLED): 5.0,
    }
    rows = [
        {"peer": f"torch {peer}", "surroundings": where, "ours": [1.0] * 5, "seconds": [s] * 5}
        for (peer, where), s in times.items()
    ]
    kept = {"kind": "bench optimizer", "timings": [{"parameters": "resnet18", "dtype": "float32", "rows": rows}]}
    (tmp_path / "optimizer.json").write_text(json.dumps(kept))
    fused, default = figures.figures(tmp_path)
    assert fused.installed is not None and default.installed is not None
    assert (fused.alike.value, fused.installed.value, fused.met()) == (1.0, 0.8, True)
    assert (default.alike.value, default.installed.value, default.met()) == (0.5, 0.2, True)


def test_a_slow_network_has_to_be_hidden_and_a_fast_one_has_nothing_to_hide(tmp_path: Path) -> None:
    times = {"hvd_adam": [0.9] * 5, "hvd_adam-fp16": [0.45] * 5, "parts": [1.0] * 5}
    names = ("unlimited", "1 Gbit/s", "unlimited, 2 ranks a node")
    measured = [{"network": name, "model": "lenet", "seconds": times} for name in names]
    measured[2]["seconds"] = {**times, "hvd_adam-horovod": [1.8] * 5}
    (tmp_path / "network.json").write_text(json.dumps({"kind": "bench network", "measured": measured}))
    fast, halves, slow, _, crowded, beside_horovod, _ = figures.figures(tmp_path)
    assert (fast.met(), slow.met(), crowded.met()) == (None, True, None)
    assert beside_horovod.alike.value == pytest.approx(0.5) and beside_horovod.met() is None
    assert slow.alike.value == pytest.approx(0.9) and halves.alike.value == pytest.approx(0.5)


def test_more_runs_an_hour_are_better(tmp_path: Path) -> None:
    def study(alone: float) -> list[figures.Figure]:
        kept = {"kind": "bench study", "study": "d.yaml", "runs": 4, "in_study": [1.0] * 5, "alone": [alone] * 5}
        (tmp_path / "study.json").write_text(json.dumps(kept))
        return figures.figures(tmp_path)

    assert [study(6.0)[0].met(), study(4.0)[0].met()] == [True, False]
    assert figures.worse(study(6.0), study(4.0)) == [] and len(figures.worse(study(4.0), study(6.0))) == 1


def test_the_table_says_n_interval_and_goal(tmp_path: Path) -> None:
    lines = figures.table(figures.figures(recorded(tmp_path / "a", 0.5, 0.05))).splitlines()
    assert lines[2] == (
        "| training step / stock Horovod + default Adam | lenet | 0.5 (0.475 to 0.525) | 0.5 (0.475 to 0.525) | 5 "
        "| <= 0.60 as installed | yes |"
    )
    assert lines[3] == "| `hvd-adam --help` |  |  | 0.5 s (0.5 to 0.5) | 5 | <= 0.30 | **no** |"


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "step.json").write_text("[]")
    with pytest.raises(ConfigError, match="It does not hold the figures of bench step"):
        figures.figures(tmp_path)


@pytest.mark.parametrize("kind", ["step", "start"])
def test_a_picture_has_a_row_for_each_figure(kind: str, tmp_path: Path) -> None:
    kept = json.loads((recorded(tmp_path / "a", 0.5, 0.05) / f"{kind}.json").read_text())
    draw(kept, tmp_path / "made" / "picture.svg")
    text = (tmp_path / "made" / "picture.svg").read_text()
    found = list(figures.READERS[kind](kept))
    assert found and all(f"<!-- {one.name.replace('--', '- -')} -->" in text for one in found)  # as svg wants it


def test_seconds_and_ratios_have_an_axis_each_and_no_row_lies_on_a_frame(tmp_path: Path) -> None:
    drawn: list[Canvas] = []
    kept = json.loads((recorded(tmp_path / "a", 0.5, 0.05) / "start.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Canvas, "savefig", lambda canvas, path: drawn.append(canvas))
        draw(kept, tmp_path / "picture.svg")
    ratios, seconds = drawn[0].axes
    assert [axes.get_xlabel().partition(";")[0] for axes in (ratios, seconds)] == ["ratio", "seconds"]
    assert [len(axes.get_yticks()) for axes in (ratios, seconds)] == [1, 2]
    assert [any(list(line.get_xdata()) == [1, 1] for line in axes.lines) for axes in (ratios, seconds)] == [True, False]
    for axes in (ratios, seconds):
        low, high = axes.get_ylim()
        assert all(low + 0.5 < place < high - 0.5 for place in axes.get_yticks())


def test_curves_are_drawn_for_sums_and_for_growth(tmp_path: Path) -> None:
    ways = {"horovod": [1e-3], "raw ring": [2e-3]}
    draw({"kind": "bench allreduce", "seconds": {"1024": ways, "4096": ways}}, tmp_path / "sums.svg")
    assert "<!-- raw ring -->" in (tmp_path / "sums.svg").read_text()
    points = [growth.Point(name, 2, 1, (1e-3,)) for name in ("lenet", "1e4", "1e5")]
    draw({"kind": "bench scale", **growth.Growth(points).to_plain()}, tmp_path / "steps.svg")
    assert "<!-- workers a rank: lenet, 2 ranks -->" in (tmp_path / "steps.svg").read_text()


def test_the_headlines_take_the_peer_as_installed_where_users_have_it_so(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "a", 0.5, 0.05)
    kept = json.loads((folder / "step.json").read_text())
    kept["comparisons"][0]["rows"][3]["seconds"] = [2.0] * 5  # stock Horovod, as installed
    (folder / "step.json").write_text(json.dumps(kept))
    lines = figures.headlines(figures.figures(folder)).splitlines()
    assert lines[2:] == [
        "| a training step / stock Horovod with torch's Adam, as installed | lenet | 0.25 (0.237 to 0.263) | 5 |",
        "| from the launch of 2 ranks to their first step / `import torch` | 2 ranks | 1 (1 to 1) | 5 |",
    ]


def test_each_goal_beside_a_peer_has_its_limits_beside_it(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "a", 0.5)
    kept = json.loads((folder / "step.json").read_text())
    for peer, seconds in (("parts", 0.7), ("bare", 0.6), ("horovod-tuned", 1.0)):
        row = {"peer": peer, "surroundings": LAUNCHER, "seconds": [seconds] * 5}
        kept["comparisons"][0]["rows"].append(row)
    kept["comparisons"][0]["rows"][3]["seconds"] = [2.0] * 5  # stock Horovod, as installed
    (folder / "step.json").write_text(json.dumps(kept))
    assert figures.limits(folder).splitlines()[2:] == [  # the goal beside stock Horovod's default is as installed
        "| lenet | stock Horovod + default Adam, as installed | <= 0.60 "
        "| 0.25 (0.25 to 0.25) | 0.35 (0.35 to 0.35) | 0.3 (0.3 to 0.3) |",
        "| lenet | stock Horovod + fused Adam, tuned, same environment | <= 0.85 "
        "| 0.5 (0.5 to 0.5) | 0.7 (0.7 to 0.7) | 0.6 (0.6 to 0.6) |",
    ]
    kept["comparisons"][0]["rows"] = [row for row in kept["comparisons"][0]["rows"] if row["peer"] != "bare"]
    (folder / "step.json").write_text(json.dumps(kept))
    assert figures.limits(folder).splitlines()[2].endswith("| 0.25 (0.25 to 0.25) | 0.35 (0.35 to 0.35) |  |")
    kept["comparisons"][0]["dtype"] = "float64"  # which has no goals
    (folder / "step.json").write_text(json.dumps(kept))
    assert figures.limits(folder) == figures.limits(tmp_path) == ""
