"""Reproductions: statements follow their rules, statistics recover known answers, the page says what results say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from hvd_adam import algorithms
from hvd_adam.cli import cli
from hvd_adam.errors import ConfigError
from hvd_adam.optim.reference import Reference
from hvd_adam.reproduce import figure_1, page, ranks, speedup_elbow, speedup_ranks, speedup_shapes, speedup_slopes
from hvd_adam.reproduce.command import run_reproduction
from hvd_adam.reproduce.points import Points
from hvd_adam.reproduce.report import NO, UNDECIDED, YES, Report, Statement, Table, load, share
from hvd_adam.reproduce.speedup_points import SHAPES, Point, Setting, criterion
from hvd_adam.reproduce.square_root_rule import half_interval
from hvd_adam.theory.elbow import ruled, units
from hvd_adam.theory.rate_grid import gradient_norms

ROOT = Path(__file__).parents[2]


def point(setting, s, horizon, spread=0.0):
    draws = np.log(horizon) + spread * np.random.default_rng(s).standard_normal(200)
    return Point(setting, s, horizon, horizon, horizon, 40, -0.25, 0.0, draws)


def statement(verdict=YES, claim="a | b"):
    return Statement(claim, "1.0 (0.9 to 1.1)", "10 runs", verdict, "agrees: always", "Since.")


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(8, 8, 0.6306, 1.0), (0, 10, 0.0, 0.3085), (7, 10, 0.3475, 0.9333)]
)
def test_shares_have_exact_intervals(k, n, low, high):
    assert share(k, n) == pytest.approx((k / n, low, high), abs=1e-4)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_the_interval_of_a_mean_is_students(n):
    values = np.random.default_rng(n).standard_normal(n)
    mean, reach = half_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean - reach, mean + reach) == pytest.approx((expected.low, expected.high), rel=1e-9)


@pytest.mark.parametrize(("verdicts", "code"), [([YES], 0), ([YES, UNDECIDED], 6), ([UNDECIDED, NO], 5)])
def test_the_exit_code_is_that_of_the_worst_verdict(verdicts, code):
    assert Report("x", "X", "c", False, "", [statement(v) for v in verdicts]).exit_code == code


def test_learning_rates_side_by_side_are_the_optimizer_one_by_one():
    rng = np.random.default_rng(0)
    m, b, x1, lrs = rng.standard_normal((3, 3)), rng.standard_normal(3), np.ones(3), np.array([0.01, 0.1, 0.5])
    hessian, noise = m @ m.T, rng.standard_normal((2, 50, 3))
    for member in (algorithms.adam(1.0, theta=0.99), None):
        means, lasts = gradient_norms(hessian, b, x1, noise, lrs, member)
        for trial in range(2):
            for k, lr in enumerate(lrs):
                twin, norms = Reference(x1.copy(), lr=lr, betas=(0.9, 0.99)), []
                for t in range(50):
                    exact = hessian @ twin.x - b
                    norms.append(np.linalg.norm(exact))
                    if member is None:
                        twin.x = twin.x - lr * (exact + noise[trial, t])
                    else:
                        twin.step(exact + noise[trial, t])
                assert means[trial, k] == pytest.approx(np.mean(norms), rel=1e-9)
                assert lasts[trial, k] == pytest.approx(np.linalg.norm(hessian @ twin.x - b), rel=1e-8)


def test_the_criterion_is_that_of_a_plain_simulation():
    setting, s, steps, runs = Setting(alpha=2, theta=3, sigma=10, d=4), 50, 300, 400
    found = criterion(setting, s, steps, list(range(runs)))
    rng, x = np.random.default_rng(9), np.full((runs, 4), 3.0)
    m, v, norms = np.zeros((runs, 4)), np.full((runs, 4), 1 / (s * 4)), np.zeros(runs)
    for _ in range(steps):
        exact = 2 * x + 3 * np.sin(2 * x)
        norms += np.linalg.norm(exact, axis=1) / steps
        g = exact + rng.normal(0, 10 / math.sqrt(4 * s), (runs, 4))
        v = (1 - 3 / steps) * v + 3 / steps * g**2
        m = 0.9 * m + 0.1 * g
        x = x - 2 / math.sqrt(steps) * m / np.sqrt(v)
    error = math.hypot(found.std() / math.sqrt(runs), norms.std() / math.sqrt(runs))
    assert abs(found.mean() - norms.mean()) < 4 * error
    assert error < 0.01 * norms.mean()


def test_slopes_and_exponents_of_power_laws_are_recovered():
    setting = Setting(sigma=20)
    curve = [point(setting, s, 1e6 / s**1.05, 0.001) for s in (1, 2, 4)]
    assert [slope[0] for _, slope in speedup_slopes.slopes(curve)] == pytest.approx([-1.05, -1.05])
    (judged,) = speedup_slopes.linear([curve])
    assert judged.verdict == NO
    (judged,) = speedup_slopes.linear([[point(setting, s, 1e6 / s, 0.001) for s in (1, 2, 4)]])
    assert judged.verdict == YES
    points = [point(Setting(sigma=40, eps=eps), 1, 1e6 * eps**-4.1, 0.001) for eps in (1.0, 2.0, 4.0)]
    assert speedup_slopes.exponent(points, "eps", -4.0, 0.2).verdict == YES
    assert speedup_slopes.exponent(points, "eps", -4.0, 0.05).verdict == NO
    apart = [point(p.setting, s, p.horizon, 0.01) for s, p in enumerate(points)]  # draws of their own
    assert speedup_slopes.exponent(apart, "eps", -4.0, 0.1).verdict == UNDECIDED  # the interval holds the edge, -4.1


def test_the_steepest_slope_is_told_for_each_eps():
    curves = [[point(Setting(4, 1, 20, eps), s, 1e6 / s**k, 0.001) for s in (1, 2, 4)]
              for eps, k in ((1.0, 1.2), (1.0, 1.5), (2.0, 1.3))]  # fmt: skip
    judged = speedup_slopes.steepest(curves)
    assert judged.verdict == YES
    assert judged.measured.startswith("steepest local slope: -1.50 at eps 1, -1.30 at eps 2; by curve: ")


@pytest.mark.parametrize(("off", "verdict"), [(1.03, YES), (1.12, NO)])
def test_curves_that_do_not_collapse_are_seen(off, verdict):
    def law(sigma, factor):
        setting = Setting(sigma=sigma)
        return [
            point(setting, setting.batch(r), factor * 1e4 / (setting.batch(r) / setting.scale)) for r in (0.1, 0.3, 1)
        ]

    (judged,) = speedup_slopes.collapse({1.0: [law(10, 1.0), law(20, off)]}, [0.1, 0.3, 1.0])
    assert judged.verdict == verdict


def test_the_elbow_of_a_hyperbola_is_where_its_branches_meet(monkeypatch):
    setting = Setting(sigma=20)

    def measure(setting, s, guess, points, runs=8):
        return point(setting, s, 100 * (1 + 2.7 * setting.scale / s), 0.001)

    monkeypatch.setattr(speedup_elbow, "measure", measure)
    elbow = speedup_elbow.find_elbow(setting, None)
    assert elbow.ratio == pytest.approx(2.7, rel=0.02)
    assert elbow.low < elbow.ratio < elbow.high < 1.02 * elbow.low


def test_the_rule_of_the_elbow_is_judged_on_settings_that_it_has_not_seen():
    def elbow(setting, factor=1.0):
        ratio = factor * 0.5 * setting.alpha**1.2 * (setting.eps / math.sqrt(setting.d)) ** -0.4
        return speedup_elbow.Elbow(setting, 300.0, ratio, ratio, ratio)

    fitted = [elbow(setting) for setting in speedup_elbow.FITTED]
    assert speedup_elbow.fit_rule(fitted) == pytest.approx([math.log(0.5), 1.2, 0.0, -0.4], abs=1e-9)
    fresh = speedup_elbow.held_out()
    assert not set(fresh) & set(speedup_elbow.FITTED)
    assert speedup_elbow.judge_rule(fitted, [elbow(s, 1.4) for s in fresh])[0][1].verdict == YES
    assert speedup_elbow.judge_rule(fitted, [elbow(s, 1.6) for s in fresh])[0][1].verdict == NO


def test_other_functions_are_measured_at_the_same_place_in_their_own_units():
    for shape in SHAPES:
        setting = speedup_shapes.in_units(shape, 4.0, 2.0, 0.3)
        problem = setting.problem
        gap = float(problem.objective(np.full(10, problem.start)))
        reach, _ = ruled(
            alpha=setting.alpha, theta=2.0, eps=setting.eps, d=10, lipschitz=problem.lipschitz, gap=gap, toy=True
        )
        assert math.sqrt(reach[0] * reach[1]) == pytest.approx(0.441 * 4**1.169 * 2**0.031 * 0.3**-0.429)
    assert speedup_shapes.in_units("toy", 4.0, 2.0, 0.3).alpha == pytest.approx(4.0)


def test_the_rule_is_judged_on_shapes_by_its_worst_factor(monkeypatch):
    rule = np.array([math.log(0.5), 1.2, 0.0, -0.4])

    def measured(off):
        def find_elbow(setting, points, runs):
            problem = setting.problem
            length, slope = units(problem.lipschitz, float(problem.objective(np.full(10, problem.start))), 10)
            ratio = 0.5 * (setting.alpha / length) ** 1.2 * (setting.eps / slope / math.sqrt(10)) ** -0.4 / off
            return speedup_elbow.Elbow(setting, 300.0, ratio, ratio, ratio)

        monkeypatch.setattr(speedup_shapes, "find_elbow", find_elbow)
        return speedup_shapes.judge_shapes(rule, None, False)

    statement, table = measured(1.4)
    assert statement.verdict == YES and len(table.rows) == 18 and {row[-1] for row in table.rows} == {"1.40"}
    assert measured(4.0)[0].verdict == NO


@pytest.mark.parametrize(
    ("agreed", "together", "said"),
    [([True, True], [True, True], YES), ([True, False], [True, True], UNDECIDED), ([True, False], [True, False], NO)],
)
def test_one_interval_of_many_that_misses_alone_is_undecided(agreed, together, said):
    assert speedup_ranks.verdict(agreed, together) == said


def test_the_toy_goes_without_saying_in_what_is_kept():
    assert "shape" not in Setting().plain()
    assert Setting(shape="pseudo-Huber, delta 2").plain()["shape"] == "pseudo-Huber, delta 2"


def test_an_order_is_judged_by_its_medians_its_trend_and_its_weakest_pair():
    rng = np.random.default_rng(0)
    end = {"a": rng.normal(0, 1, 200), "b": rng.normal(1, 1, 200), "c": rng.normal(2, 1, 200)}
    assert figure_1._order("", end, [["a"], ["b"], ["c"]]).verdict == YES
    assert figure_1._order("", end, [["c"], ["b"], ["a"]]).verdict == NO
    assert figure_1._order("", {**end, "b": end["a"] + 1e-3 * rng.normal(0.3, 1, 200)}, [["a"], ["b"]]).verdict != NO


def test_log_of_the_objective_survives_where_its_square_underflows():
    found = figure_1.log_objective(np.array([1.0, 1e-200, 0.0]))
    assert found == pytest.approx([-math.log(22), -400 * math.log(10) - math.log(22), figure_1.UNDERFLOW])


def test_points_are_measured_once_and_survive_a_line_cut_short(tmp_path):
    file, calls = tmp_path / "points.jsonl", []

    def measure():
        calls.append(1)
        return len(calls)

    assert [Points(file).get({"s": 1}, measure), Points(file).get({"s": 2}, measure)] == [1, 2]
    with file.open("a") as out:
        out.write('{"key": {"s": 3}, "va')
    points = Points(file)
    assert [points.get({"s": s}, measure) for s in (1, 2, 3)] == [1, 2, 3]
    assert [json.loads(line)["value"] for line in file.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("steps", [1, 2, 63, 64, 100, 5000])
def test_the_mean_norm_of_a_thinned_trace_is_that_of_every_step(tmp_path, steps):
    at = ranks.evaluated_at(steps)
    assert at[0] == 0 and at[-1] == steps and len(at) < 70 + 40 * max(0, math.log2(steps / 64))
    norms = 16 * np.exp(-np.arange(steps + 1) / 40) + 1
    lines = [{"kind": "eval", "step": t, "gradient_norm": norms[t]} for t in at]
    (tmp_path / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert ranks.mean_norm(tmp_path / "trace.jsonl") == pytest.approx(norms[:-1].mean(), rel=1e-3)


def test_the_page_says_claim_figure_interval_n_verdict_and_command(tmp_path):
    report = Report("reddi", "Where", "hvd-adam reproduce reddi", False, "First.\n\nProtocol.", [statement(NO)])
    report.tables, report.pictures = [Table("T", ["h"], [["c|d"]])], [("reddi.svg", "x_t.")]
    report.save(tmp_path / "runs" / "reddi")
    (tmp_path / "runs" / "reddi" / "reddi.svg").write_text("<svg/>")
    assert load(tmp_path / "runs" / "reddi" / "result.json") == report
    assert page.take(tmp_path / "runs", tmp_path / "reproduction", "reddi")
    assert not page.take(tmp_path / "runs", tmp_path / "reproduction", "figure-1")
    assert page.build(tmp_path / "reproduction", tmp_path / "page.md") == ["reddi"]
    text = (tmp_path / "page.md").read_text()
    for said in ("a \\| b", "1.0 (0.9 to 1.1)", "10 runs", "**differs**", "Since.", "hvd-adam reproduce reddi", "c\\|d",
                 "agrees: always", "reproduction/reddi.svg"):  # fmt: skip
        assert said in text


def test_the_page_in_docs_is_that_of_the_committed_results(tmp_path):
    results = ROOT / "docs" / "reproduction"
    found = page.build(results, tmp_path / "reproduction.md")
    assert (tmp_path / "reproduction.md").read_text() == (ROOT / "docs" / "reproduction.md").read_text()
    for name in found:
        report = load(results / f"{name}.json")
        assert not report.quick
        assert all((results / picture).is_file() for picture, _ in report.pictures)


def test_a_quick_reproduction_leaves_data_picture_verdict_and_command(tmp_path):
    said: list[str] = []
    code = run_reproduction("figure-4", True, str(tmp_path / "f4"), said.append)
    left = {path.name for path in (tmp_path / "f4").iterdir()}
    assert left == {"result.json", "figure-4.svg", "verdict.txt", "command", "points.jsonl"}
    report = load(tmp_path / "f4" / "result.json")
    assert code == report.exit_code != 5  # few runs refute nothing
    assert report.statements[0].claim in said[0]


def test_an_unknown_figure_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean figure-1"):
        run_reproduction("figure-11", False, None, print)
    assert CliRunner().invoke(cli, ["reproduce", "figure-11"]).exception.exit_code == 2
