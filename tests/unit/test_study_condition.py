"""The condition over a study: which schedules are judged, the worst that decides, what `study run` does about it."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hvd_adam.cli import main
from hvd_adam.commands.check import check
from hvd_adam.errors import ConditionError, ConfigError
from hvd_adam.study.condition import before_running, judge, schedules
from hvd_adam.study.condition_report import screen
from hvd_adam.study.config import from_plain
from hvd_adam.study.plan import Plan, plan

ADAM = {"name": "adam", "lr": 0.01}  # clause 4: the ratio tends to sqrt(0.001)
HOLDS = {"name": "polynomial"}  # r = 1 = 2 s: Corollary 10
EDGE = {"name": "adaema"}  # clause 2 at t = 1 only


def made(algorithm: Any = ADAM, grid: Any = None, picks: Any = None, **more: Any) -> Plan:
    base = {"task": {"name": "digits", "model": "softmax"}, "algorithm": algorithm, **more.pop("base", {})}
    study = {
        "name": "small", "base": base, "grid": grid or {"workers": [1, 4]}, "seeds": 2,
        "targets": [{"measure": "loss", "at_most": 0.5}], "budget": {"steps": 100}, **more,
    }  # fmt: skip
    return plan(from_plain(study), picks)


def first_rates(found: Any) -> list[float]:
    return [float(one.member.alpha.with_horizon(one.steps)(1)) for one in found]


def test_cells_of_one_schedule_are_judged_once():
    (one,) = schedules(made())
    assert one.cells == ("workers-1", "workers-4")


def test_each_cell_has_the_learning_rate_that_its_rule_gives():
    assert first_rates(schedules(made(lr={"rule": "sqrt"}))) == pytest.approx([0.01, 0.02])


def test_malladi_moves_the_betas_too_and_refused_cells_are_not_judged():
    found = schedules(made(grid={"workers": [1, 2, 16]}, lr={"rule": "malladi"}))
    assert [one.member.theta(1) for one in found] == pytest.approx([0.999, 0.998])
    assert [cell for one in found for cell in one.cells] == ["workers-1", "workers-2"]


@pytest.mark.parametrize("picks", [None, {"workers-1": 2.0}])
def test_where_lr_is_tuned_every_rate_that_is_tried_is_judged(picks):
    found = schedules(made(lr={"rule": "sqrt", "tune": [0.5, 1, 2]}, picks=picks))
    assert sorted(first_rates(found)) == pytest.approx([0.005, 0.01, 0.02, 0.04])
    assert ("workers-1" in [cell for one in found for cell in one.cells]) is (picks is not None)


def test_a_schedule_that_knows_T_is_judged_at_every_T_and_others_at_the_longest():
    grid = {"workers": [1, 4]}
    measured = [{"measure": "mean_gradient_norm", "at_most": 3.0}]
    theory: dict[str, Any] = {"mode": "theory", "horizons": [100, 200, 400], "budget": None, "targets": measured}
    toy = {"base": {"task": {"name": "toy", "sigma": 1.0}}}
    assert [one.steps for one in schedules(made({"name": "theorem17"}, grid, **theory, **toy))] == [100, 200, 400]
    assert [one.steps for one in schedules(made(ADAM, grid, **theory, **toy))] == [400]


def test_the_worst_verdict_comes_first_and_decides():
    judged = judge(schedules(made(grid={"algorithm": [HOLDS, ADAM]})))
    assert [each.verdict.state.value for each in judged] == ["violated", "holds"]
    assert "NOT SHOWN TO CONVERGE: 1 of 2 schedules." in screen(judged, "small")


def test_a_study_none_of_whose_cells_is_run_has_no_verdict():
    with pytest.raises(ConfigError) as caught:
        judge(schedules(made({"name": "adam", "beta": 0.0}, lr={"rule": "malladi"})))
    assert "none of whose cells is run" in caught.value.found


def test_the_table_has_a_row_for_what_fares_alike_and_fits_the_width():
    lines = screen(judge(schedules(made(lr={"rule": "sqrt"}))), "small").splitlines()
    (row,) = [line for line in lines if line.startswith("  adam")]
    assert row.split() == ["adam", "2", "2", "violated", "proved", "4"]
    assert max(map(len, lines)) <= 80 and len(lines) <= 22


def said(plan_made: Plan) -> list[str]:
    lines: list[str] = []
    before_running(plan_made, lines.append)
    return lines


@pytest.mark.parametrize(
    ("algorithm", "condition", "starts"),
    [
        (HOLDS, "warn", "condition: holds (proved), rate T^-0.25 (log T)^0.5"),
        (HOLDS, "require", "condition: holds (proved), rate T^-0.25 (log T)^0.5"),
        (ADAM, "warn", "condition: violated, clause 4: the ratio tends to 0.03162; change: alpha_t = 0.01/t^0.25"),
        ({"name": "adam", "lr": 0.0}, "warn", "condition: not judged, cell workers-1: alpha: 0"),
        (ADAM, "off", None),
    ],
)
def test_one_line_is_said_before_a_study_runs(algorithm, condition, starts):
    lines = said(made(algorithm, base={"condition": condition}))
    assert len(lines) == (starts is not None)
    assert all(line.startswith(starts) for line in lines)


def test_the_line_names_the_worst_cell_and_counts_those_that_hold():
    (line,) = said(made(grid={"algorithm": [HOLDS, ADAM], "workers": [1, 2]}))
    assert line.startswith("condition: violated")
    assert line.endswith("_workers-1, the worst; 1 of 2 schedules hold)")


def test_require_names_the_cell_that_fails():
    with pytest.raises(ConditionError) as caught:
        said(made(grid={"algorithm": [HOLDS, EDGE]}, base={"condition": "require"}))
    assert caught.value.exit_code == 3
    assert caught.value.found.startswith("cell algorithm-adaema-")
    assert ": condition: require, and it is violated: clause 2 at t = 1 only" in caught.value.found


def test_a_study_that_requires_the_condition_stops_with_3_before_a_run_is_made(tmp_path, monkeypatch, capsys):
    study = tmp_path / "strict.yaml"
    study.write_text(Path("configs/studies/digits.yaml").read_text().replace("base:", "base:\n  condition: require"))
    folder = tmp_path / "runs"
    monkeypatch.setattr(sys, "argv", ["hvd-adam", "study", "run", str(study), "--folder", str(folder)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 3
    assert "cell workers-1: condition: require" in capsys.readouterr().err
    assert not list(folder.glob("**/seed-*"))


def test_json_lists_every_schedule_with_its_cells_and_its_verdict():
    result = CliRunner().invoke(check, ["configs/studies/digits.yaml", "--json"])
    plain = json.loads(result.output)
    assert (result.exit_code, plain["verdict"], plain["proved"]) == (3, "violated", True)
    assert [one["cells"] for one in plain["schedules"]] == [[f"workers-{n}"] for n in (1, 2, 4, 8)]
    rates = [float(one["schedules"]["alpha"].partition("*")[0]) for one in plain["schedules"]]
    assert rates == pytest.approx([0.001 * math.sqrt(n) for n in (1, 2, 4, 8)], rel=1e-5)


def test_framework_paper_takes_bias_correction_out_of_every_cell():
    result = CliRunner().invoke(check, ["configs/studies/digits.yaml", "--framework", "paper", "--json"])
    assert json.loads(result.output)["schedules"][0]["schedules"]["alpha"] == "0.001"


def test_checking_a_study_imports_no_torch():
    import subprocess

    program = (
        "import sys; from click.testing import CliRunner; from hvd_adam.commands.check import check;"
        "r = CliRunner().invoke(check, ['configs/studies/digits.yaml']); assert r.exit_code == 3, r.exception;"
        "print({'torch', 'matplotlib', 'numba', 'horovod'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
