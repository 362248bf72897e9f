"""`study check`, `compare` and `export`, and reports of studies that are tuned, timed or of theory mode."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from hvd_adam.errors import ConfigError
from tests.made_study import BASE, hyperbola, make, study_of


def plain(folder: Path, call) -> dict:
    assert call("study", "report", folder, "--format", "json")[0] == 0
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize(
    ("expect", "code", "says"),
    [
        ({"slope": [-1.0, -0.8]}, 0, "slope in [-1, -0.8]: met"),
        ({"slope": [-1.1, -0.95]}, 5, "slope in [-1.1, -0.95]: not met"),
        ({"slope": [-0.9, -0.8]}, 6, "more seeds may not tell"),  # the estimate lies on the limit
        ({"slope": [-0.89, -0.8]}, 6, "more seeds a cell"),
        ({"linear_up_to": 32}, 0, "linear up to batch 32 at least: met"),
        ({"linear_up_to": 128}, 5, "linear up to batch 128 at least: not met"),
        ({"reach": 1.0}, 0, "at least 100 % of the runs reach the target: met"),
        ({"time_ratio": {"cell": "workers-8", "base": "workers-1", "at_most": 0.5}}, 0, "at most 0.5 times"),
        ({"time_ratio": {"cell": "workers-8", "base": "workers-1", "at_most": 0.1}}, 5, "not met"),
    ],
)
def test_check_is_a_gate(expect: dict, code: int, says: str, tmp_path: Path, call) -> None:
    found, said, _ = call("study", "check", make(tmp_path / "s", study_of(expect=expect)))
    assert found == code and says in said


def test_check_does_not_pass_where_a_cell_was_never_measured(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(expect={"slope": [-1.2, -0.7]}))
    for seed in range(5):
        (folder / f"workers-16/seed-{seed}/result.json").unlink()
    code, said, _ = call("study", "check", folder)
    assert code == 6 and "cell workers-16: a run that can be used: not enough evidence" in said


def test_check_of_a_range_does_not_pass_where_nothing_can_be_fitted(tmp_path: Path, call) -> None:
    """One usable cell: without a slope there is no range, and an expectation that was not judged is not met."""
    folder = make(tmp_path / "s", study_of(grid={"workers": [1, 2]}, expect={"linear_up_to": 8}))
    for seed in range(5):
        (folder / f"workers-2/seed-{seed}/result.json").unlink()
    code, said, _ = call("study", "check", folder)
    assert code == 6 and "linear up to batch 8 at least: not enough evidence" in said


def tuned(folder: Path, tuning_seeds: int, **expect) -> Path:
    """Batch 8 to 128 on a straight line; the best factor of lr is the root of the batch, others cost more steps."""
    rates = [0.25, 0.5, 1, 2, 4]

    def steps(cell, seed):
        away = math.log(cell.factor / math.sqrt(cell.batch / 32))
        return hyperbola(cell, seed, 1e-3, 2e7, spread=0.04) * math.exp(0.05 * away**2)

    picks = {f"workers-{w}": math.sqrt(w / 4) for w in (1, 4, 16)}
    study = study_of(
        grid={"workers": [1, 4, 16]}, lr={"tune": rates, "tuning_seeds": tuning_seeds}, expect=expect,
        budget={"steps": 10**6},
    )  # fmt: skip
    return make(folder, study, steps, picks=picks)


def test_check_of_a_tuned_study_carries_the_picks(tmp_path: Path, call) -> None:
    folder = tuned(tmp_path / "s", 6, linear_up_to=128, slope=[-1.15, -0.85])
    code, said, _ = call("study", "check", folder)
    assert code == 0 and "linear up to batch 128 at least: met" in said and "slope in [-1.15, -0.85]: met" in said
    report = plain(folder, call)["series"][0]
    for name in ("slope", "linear_up_to"):
        assert "spread of the picks carried" in report[name]["method"]
    assert "picks carried" in report["cells"][-1]["excess"].get("method", "")


def test_picks_whose_spread_is_unknown_make_every_figure_conditional(tmp_path: Path, call) -> None:
    folder = tuned(tmp_path / "s", 1, linear_up_to=128)
    report = plain(folder, call)["series"][0]
    for one in (report["slope"], report["linear_up_to"], report["cells"][-1]["excess"]):
        assert "conditional on the learning rates that were picked" in one["method"]
    _, said, _ = call("study", "report", folder)
    assert "no interval holds that: all are conditional on the picks" in said


def test_a_pick_that_may_be_wrong_by_much_is_no_evidence_for_any_number_of_seeds(tmp_path: Path, call) -> None:
    study = study_of(
        grid={"workers": [1, 2, 4, 8]}, lr={"tune": [0.5, 1, 2], "tuning_seeds": 3}, expect={"linear_up_to": 64},
        budget={"steps": 10**6},
    )  # fmt: skip

    def steps(cell, seed):  # tuning runs scatter so much that any factor may come out as the best
        if not cell.tunes:
            return hyperbola(cell, seed, 1e-3, 2e7, spread=0.03)
        noise = np.random.default_rng([seed, cell.batch, int(100 * cell.factor)]).normal()
        return hyperbola(cell, seed, 1e-3, 2e7, spread=0) * math.exp(0.6 * noise)

    folder = make(tmp_path / "s", study, steps, picks={f"workers-{w}": 1.0 for w in (1, 2, 4, 8)})
    code, said, _ = call("study", "check", folder)
    assert (
        code == 6
        and "linear up to batch 64 at least: not enough evidence" in said
        and "more seeds may not tell" in said
    )


@pytest.mark.parametrize(
    ("expect", "code", "says"),
    [
        ({"linear_up_to": 128}, 0, "linear up to batch 128 at least: met"),
        ({"linear_up_to": 128, "slope": [-1.2, -0.8]}, 0, "slope in [-1.2, -0.8]: met"),
        ({"linear_up_to": 256}, 5, "linear up to batch 256 at least: not met"),
        ({"slope": [-0.8, -0.6]}, 5, "slope in [-0.8, -0.6]: not met"),
        ({"slope": [-1.01, -0.99]}, 6, "slope in [-1.01, -0.99]: not enough evidence"),
    ],
)
def test_check_in_theory_mode_judges_slope_and_range(expect: dict, code: int, says: str, tmp_path: Path, call) -> None:
    study = study_of(
        mode="theory", horizons=[1000, 2000, 4000, 8000, 16000], budget=None, seeds=6, expect=expect,
        grid={"workers": [2, 4, 8, 16]} if expect.get("linear_up_to") == 256 else {"workers": [2, 4, 8]},
        base={**BASE["base"], "local_batch": 16},
    )  # fmt: skip

    def steps(cell, seed):  # a straight line up to batch 128; 256 needs 1.8 times the samples
        more = 1.8 if cell.batch > 128 else 1.0
        noise = np.random.default_rng([seed, cell.batch, cell.horizon]).normal()
        return more * 256000 / cell.batch * math.exp(0.05 * noise)

    folder = make(tmp_path / "s", study, steps)
    found, said, _ = call("study", "check", folder)
    assert found == code and says in said, said
    _, said, _ = call("study", "report", folder)
    assert "Linear up to batch 128 (95 % interval" in said


@pytest.mark.parametrize("expect", [{"reach": 0.9}, {"time_ratio": {"cell": "a", "base": "b", "at_most": 1.0}}])
def test_expectations_that_theory_mode_cannot_judge_are_refused_before_anything_runs(expect: dict) -> None:
    with pytest.raises(ConfigError, match="in theory mode"):
        study_of(mode="theory", horizons=[100, 200, 400], budget=None, expect=expect)


def test_check_of_a_study_that_expects_nothing_is_refused(tmp_path: Path, call) -> None:
    code, _, err = call("study", "check", make(tmp_path / "s", study_of(seeds=2)))
    assert code == 2 and "no expect" in err and "There is nothing to hold it to" in err and "expect: {slope:" in err


@pytest.mark.parametrize(("factor", "code", "says"), [(1.2, 5, "B needs more steps"), (0.8, 0, "B needs fewer steps")])
def test_compare_names_the_ratio_that_was_put_in(factor: float, code: int, says: str, tmp_path: Path, call) -> None:
    a = make(tmp_path / "a", study_of())
    b = make(tmp_path / "b", study_of(), lambda cell, seed: factor * hyperbola(cell, seed))
    found, said, _ = call("study", "compare", a, b, "--gate")
    assert found == code and said.startswith(says) and "25 pairs" in said
    assert "workers-4: steps of B / steps of A" in said


def test_a_study_is_no_worse_than_itself(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of())
    code, said, _ = call("study", "compare", folder, folder, "--gate")
    assert code == 0 and said.startswith("no difference shown: ratio 1.000")


def test_compare_refuses_two_targets(tmp_path: Path, call) -> None:
    a = make(tmp_path / "a", study_of(seeds=2))
    b = make(tmp_path / "b", study_of(seeds=2, targets=[{"measure": "train_loss", "at_most": 0.4}]))
    code, _, err = call("study", "compare", a, b)
    assert code == 2 and "train_loss <= 0.3" in err and "train_loss <= 0.4" in err and "not comparable" in err


def test_compare_refuses_a_study_without_a_usable_run(tmp_path: Path, call) -> None:
    a = make(tmp_path / "a", study_of(seeds=2))
    b = make(tmp_path / "b", study_of(seeds=2), lambda cell, seed: 0)
    code, _, err = call("study", "compare", a, b)
    assert code == 2 and "None of its runs can be used" in err


def test_export_writes_tables_whose_rows_are_the_runs(tmp_path: Path, call) -> None:
    folder = make(tmp_path / "s", study_of(seeds=3))
    assert call("study", "export", folder, "--to", tmp_path / "out")[0] == 0
    tables = {file.stem: list(csv.DictReader(file.open())) for file in (tmp_path / "out").glob("*.csv")}
    assert len(tables["runs"]) == 15 and len(tables["cells"]) == 5
    assert {row["outcome"] for row in tables["runs"]} == {"reached"}
    (last,) = [r for r in tables["evaluations"] if r["run"] == "workers-4/seed-1" and float(r["train_loss"]) <= 0.3]
    (run,) = [r for r in tables["runs"] if r["run"] == "workers-4/seed-1"]
    assert float(run["by"]) == float(last["step"]) and int(last["samples"]) == 32 * int(last["step"])


def test_event_files_without_tensorboard_are_refused_with_the_way_to_it(tmp_path: Path, call, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    code, _, err = call("study", "export", make(tmp_path / "s", study_of(seeds=1)), "--format", "tensorboard")
    assert code == 2 and "pip install tensorboard" in err


def test_event_files_hold_the_curves(tmp_path: Path, call) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard here: pip install tensorboard"
    )
    folder = make(tmp_path / "s", study_of(seeds=1, grid={"workers": [1, 2]}))
    assert call("study", "export", folder, "--format", "tensorboard", "--to", tmp_path / "out")[0] == 0
    events = reader.EventAccumulator(str(tmp_path / "out/workers-2/seed-0"))
    events.Reload()
    curve = events.Scalars("evaluation/train_loss")
    assert curve[-1].value == pytest.approx(0.29) and curve[0].step == 0


def test_a_ring_of_known_latency_is_predicted_beyond_the_ranks_that_ran(tmp_path: Path, call) -> None:
    """made_study's step takes 8 ms and 1 ms more a rank: 24 ms at 16 nodes; the model's ring grows as 2 (n - 1)."""
    folder = make(tmp_path / "s", study_of(ranks=4), lambda cell, seed: hyperbola(cell, seed, 1e-3, 2e7))
    found = plain(folder, call)["series"][0]["seconds"]
    assert [one["nodes"] for one in found["nodes"]] == [1, 2, 4, 8, 16]
    assert [one["predicted"] for one in found["nodes"]] == [False, False, False, True, True]
    assert found["fastest"] == 16
    for one in found["nodes"]:
        steps = 1e-3 * (1 + 2e7 / (8 * one["nodes"]))
        assert one["seconds"]["estimate"] == pytest.approx(steps * (8e-3 + 1e-3 * one["nodes"]), rel=0.15)
    _, said, _ = call("study", "report", folder)
    assert "In seconds it pays up to 16 nodes, as far as the study goes" in said and "predicted" in said


def test_seconds_of_shared_ranks_are_not_sold_as_seconds_of_nodes(tmp_path: Path, call) -> None:
    _, said, _ = call("study", "report", make(tmp_path / "s", study_of(seeds=3)))
    assert "In seconds nothing is said of more nodes: the workers shared 1 rank" in said


def test_a_tuned_study_shows_what_was_tried_and_carries_the_picks(tmp_path: Path, call) -> None:
    def steps(cell, seed):
        return hyperbola(cell, seed) * math.exp(0.3 * math.log(cell.factor / math.sqrt(cell.batch / 32)) ** 2)

    picks = {f"workers-{w}": f for w, f in zip((1, 2, 4, 8, 16), (0.5, 1, 1, 2, 2), strict=True)}
    study = study_of(lr={"tune": [0.5, 1, 2, 4], "tuning_seeds": 3})
    folder = make(tmp_path / "s", study, steps, picks=picks)
    found = plain(folder, call)
    assert [one["picked"] for one in found["learning_rates"]] == [0.5, 1, 1, 2, 2]
    assert [one["at_edge"] for one in found["learning_rates"]] == [True, False, False, False, False]
    assert "picks carried" in found["series"][0]["slope"]["method"]
    assert "picks carried" in found["series"][0]["hyperbola"]["critical_batch"]["method"]
    assert "hyperbola against free cell means, picks allowed for" in json.dumps(found["series"][0]["tests"])
    _, said, _ = call("study", "report", folder)
    assert "but for critical batch" not in said
    assert (
        "the intervals of slope, range, samples and critical batch hold what picking adds" in " ".join(said.split())
        and "is the smallest that was tried" in said
    )
    assert "Learning rate picked for each batch" in (folder / "report.html").read_text()


def test_a_cell_that_never_reached_leaves_the_critical_batch_conditional_and_is_said_so(tmp_path: Path, call) -> None:
    def steps(cell, seed):
        return math.inf if cell.batch == 128 and not cell.tunes else hyperbola(cell, seed) * max(cell.factor, 1)

    picks = {f"workers-{w}": 1.0 for w in (1, 2, 4, 8, 16)}
    folder = make(tmp_path / "s", study_of(lr={"tune": [1, 2], "tuning_seeds": 3}), steps, picks=picks)
    assert "conditional" in plain(folder, call)["series"][0]["hyperbola"]["critical_batch"]["method"]
    _, said, _ = call("study", "report", folder)
    assert "but for critical batch and regions: these are conditional on the picks" in " ".join(said.split())


def test_theory_mode_inverts_the_criterion_of_each_batch(tmp_path: Path, call) -> None:
    study = study_of(
        mode="theory", horizons=[1000, 2000, 4000, 8000, 16000], budget=None, seeds=6,
        grid={"workers": [2, 4, 8]}, base={**BASE["base"], "local_batch": 16},
    )  # fmt: skip

    def steps(cell, seed):  # T s = 256,000, so that the slope is -1
        return 256000 / cell.batch * math.exp(0.1 * np.random.default_rng([seed, cell.batch, cell.horizon]).normal())

    folder = make(tmp_path / "s", study, steps)
    (found,) = plain(folder, call)["horizons"]
    assert found["slope"]["low"] < -1 < found["slope"]["high"]
    for one in found["cells"]:
        assert one["steps"]["low"] < 256000 / one["batch"] < one["steps"]["high"]
    _, said, _ = call("study", "report", folder)
    assert said.startswith("Theory mode, one run for each horizon and seed: slope -") and "censored" not in said


@pytest.mark.parametrize("content", ["[1, 2]", '{"workers-1": "large"}'])
def test_picks_that_are_none_are_named_and_no_traceback(tmp_path: Path, call, content: str) -> None:
    folder = tuned(tmp_path / "s", 2)
    (folder / "picks.json").write_text(content)
    for command in ("report", "status"):
        code, _, said = call("study", command, folder)
        assert code == 1 and "picks.json" in said and "tuning chooses again" in said


def test_a_report_does_not_go_where_a_folder_lies(tmp_path: Path, call) -> None:
    code, _, said = call("study", "report", tuned(tmp_path / "s", 2), "--to", tmp_path)
    assert code == 2 and "is a directory" in said
