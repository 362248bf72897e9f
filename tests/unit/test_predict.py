"""`hvd-adam predict`: numbers in, curve out, without torch."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hvd_adam.cli import main
from hvd_adam.errors import ConfigError
from hvd_adam.probe import findings
from hvd_adam.probe.outlook import curve, to_plain
from hvd_adam.probe.picture import draw
from hvd_adam.theory import theorem17
from hvd_adam.theory.elbow import OFF, RULE, Range, ruled
from hvd_adam.theory.prediction import predict
from hvd_adam.theory.theorem17 import steps_to

FULL = ["--d", 10, "--alpha", 4, "--lipschitz", 8, "--gradient-bound", 60, "--gap", 90]


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hvd-adam", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def numbers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> dict:  # type: ignore[type-arg]
    assert call(monkeypatch, "predict", *words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_the_table_is_s_star_the_elbow_and_what_pays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "predict", "--sigma", 20, "--eps", 1, "--local-batch", 4, *FULL) == 0
    said = capsys.readouterr().out
    assert "order of magnitude: constants of an upper bound" in said
    assert "(122 to 1,922), 0.305 to 4.8 times s*" in said  # 3.66 = 0.441 4^1.169 10^0.2145 and R: /12 to x1.31
    assert "122 to 1,922 samples = 31 to 480 workers of 4" in said
    assert "alpha_t x sqrt(k), 1 - theta_t x k, v_0 / k" in said


def test_each_row_follows_from_the_formulas(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = numbers(monkeypatch, capsys, "--sigma", 20, "--eps", 2, "--theta", 2, *FULL, "--known", "8:1000")
    assert found["s_star"]["value"] == pytest.approx((400 + 0.25) / 4)
    middle = 0.441 * (4 / 0.9967) ** 1.169 * 2**0.031 * (2 / 10**0.5 / 0.9967) ** -0.429  # R with gap 90
    low, high = middle / 12 * 400.25 / 4, middle * 1.31 * 400.25 / 4
    assert (found["elbow"]["low"], found["elbow"]["high"]) == pytest.approx((low, high), rel=1e-3)
    low, high = found["elbow"]["low"], found["elbow"]["high"]
    for row in found["rows"]:
        s = row["batch"]
        assert row["relative_steps"]["high"] == pytest.approx(1 + high / s)
        assert row["share"]["low"] == pytest.approx(low / (s + low))
        ends = sorted(1000 * (1 + at / s) / (1 + at / 8) for at in (low, high))
        assert [row["steps"]["low"], row["steps"]["high"]] == pytest.approx(ends)
        bound = theorem17.bound(
            T=row["bound_steps"], s=s, sigma=20, d=10, alpha=4, theta=2, beta=0.9, L=8, G=60, gap=90
        )
        assert bound == pytest.approx(2, rel=1e-8)
    assert found["rows"][-1]["batch"] >= high > found["rows"][0]["batch"]


def settings() -> list[tuple[dict[str, float], str, float]]:
    """(setting, used, elbow / s*) of each setting whose elbow was measured."""
    tables = json.loads(Path("docs/reproduction/speedup-law.json").read_text())["tables"]
    (rows,) = [table["rows"] for table in tables if table["title"].startswith("Elbow over s*")]
    found = []
    for text, used, _, ratio, _ in rows:
        setting = {name: float(value) for name, value in (part.split() for part in text.split(", "))}
        found.append((setting, used, float(ratio.split()[0])))
    return found


def asked(setting: dict[str, float]) -> dict[str, Any]:
    return {**{name: setting[name] for name in ("alpha", "theta", "eps")}, "d": int(setting["d"])}


def test_the_rule_holds_every_measured_elbow_within_its_range() -> None:
    measured = settings()
    assert [used for _, used, _ in measured].count("held out") == 12
    for setting, _, ratio in measured:
        reach, ground = ruled(**asked(setting), toy=True)
        assert reach is not None and reach[0] * 0.995 <= ratio <= reach[1] * 1.005, (
            setting,
            ground,
        )  # of OFF


def test_the_rule_is_the_one_that_was_fitted() -> None:
    statements = json.loads(Path("docs/reproduction/speedup-law.json").read_text())["statements"]
    (said,) = [one["measured"] for one in statements if one["measured"].startswith("elbow = ")]
    constant, alpha, theta, eps = RULE
    assert f"elbow = {constant:.2f} alpha^{alpha:.2f} theta^{theta:.2f} (eps/sqrt(d))^{eps:.2f} s*" in said
    assert f"largest factor off {OFF:.2f}" in said


def test_functions_of_other_shapes_lie_within_the_wide_range_and_not_within_the_toys() -> None:
    tables = json.loads(Path("docs/reproduction/speedup-law.json").read_text())["tables"]
    (rows,) = [table["rows"] for table in tables if table["title"].startswith("The rule on other functions")]
    outside = 0
    for _, where, ratio, _, _ in rows:
        alpha, theta, eps = (float(part.split()[-1]) for part in where.split(", "))
        place: dict[str, Any] = {"alpha": alpha, "theta": theta, "eps": eps, "d": 1}
        (low, high), _ = ruled(**place)
        assert low <= float(ratio.split()[0]) <= high
        (low, high), _ = ruled(**place, toy=True)
        outside += not low <= float(ratio.split()[0]) <= high
    assert outside >= 9  # all quadratics with unlike curvatures


@pytest.mark.parametrize(("task", "toy"), [({"name": "toy", "d": 20}, True), ({"name": "toy", "a": 0.0}, False),
                                           ({"name": "quadratic"}, False), (None, False)])  # fmt: skip
def test_a_probe_of_the_toy_itself_has_the_narrow_range(task: Any, toy: bool) -> None:
    assert findings._is_toy(task or {}) is toy


@pytest.mark.parametrize(("length", "height"), [(1.0, 1.0), (0.01, 1.0), (1.0, 300.0), (20.0, 0.002)])
def test_the_rule_does_not_depend_on_the_units_of_x_and_f(length: float, height: float) -> None:
    """f(x) -> height f(x / length): L x height / length^2, gap x height, eps x height / length, alpha x length."""
    toy: dict[str, Any] = {"theta": 2.0, "d": 10}
    plain, _ = ruled(alpha=3.0, eps=1.2, **toy)
    gap = 10 * (9 + 3 * math.sin(3) ** 2)
    moved, _ = ruled(
        alpha=3.0 * length, eps=1.2 * height / length, lipschitz=8 * height / length**2, gap=gap * height, **toy
    )
    assert moved == pytest.approx(plain)


@pytest.mark.parametrize(
    ("more", "ground"),
    [
        (["--d", 10, "--alpha", 20], "no rule: alpha = 20 in units of the toy, tried from 1 to 8"),
        (["--d", 10, "--theta", 0.1], "no rule: theta = 0.1"),
        (["--d", 100_000], "no rule: eps/sqrt(d) = 0.00316"),
        ([], "no rule: it needs --d"),
    ],
)
def test_where_the_rule_was_not_tried_the_wide_range_stands(
    more: list[object], ground: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = numbers(monkeypatch, capsys, "--sigma", 20, "--eps", 1, *more)
    assert found["prefactor"] == [0.3, 5.0]
    assert found["ground"].startswith(ground)


def test_twice_the_sigma_moves_the_elbow_four_times_as_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (numbers(monkeypatch, capsys, "--sigma", sigma, "--eps", 1, "--theta", 1e9) for sigma in (10, 20))
    assert two["elbow"]["low"] == pytest.approx(4 * one["elbow"]["low"])


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_picture_is_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"curve.{kind}"
    assert call(monkeypatch, "predict", "--sigma", 20, "--eps", 1, "--plot", file) == 0
    assert file.stat().st_size > 1000 and str(file) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--eps", "1"], 2, "Give --sigma and --eps"),
        (["--sigma", "1"], 2, "Give --sigma and --eps"),
        (["--sigma", "0", "--eps", "1"], 2, "Give sigma > 0"),
        (["--sigma", "-1", "--eps", "1"], 2, "Give sigma > 0"),
        (["--sigma", "1", "--eps", "0"], 2, "Give eps > 0"),
        (["--sigma", "1", "--eps", "-3"], 2, "Give eps > 0"),
        (["--sigma", "nan", "--eps", "1"], 2, "Give sigma > 0"),
        (["--sigma", "inf", "--eps", "1"], 2, "Give sigma > 0"),
        (["--sigma", "1", "--eps", "1", "--theta", "0"], 2, "Give theta > 0"),
        (["--sigma", "1", "--eps", "1", "--known", "12"], 2, "Write --known 64:1200"),
        (["--sigma", "1", "--eps", "1", "--known", "0:12"], 2, "Write --known 64:1200"),
        (["--sigma", "1", "--eps", "1", "--plot", "x.bmp"], 2, "End it in .svg"),
        (["--sigma", "1", "--eps", "1", "--plot", "nowhere/x.svg"], 1, "Name another file"),
        (["--sigma", "1", "--eps", "1", "--d", "0"], 2, "--d"),
        (["--sigma", "1", "--eps", "1", "--beta", "1"], 2, "--beta"),
        (["--sigma", "1", "--eps", "1", "--gap", "0", "--d", "3"], 2, "--gap"),
        (["--sigma", "1", "--eps", "1", "--alpha", "-1"], 2, "--alpha"),
        (["--sigma", "1", "--eps", "1", "--known", "64:inf"], 2, "Write --known 64:1200"),
        (["--sigma", "1e200", "--eps", "1e-200"], 2, "Scale the loss"),
        (["--sigma", "1", "--eps", "1e200"], 2, "Scale the loss"),
        (["nothing-here"], 2, "hvd-adam probe CONFIG"),
        (["not-a-probe.json"], 2, "hvd-adam probe CONFIG"),
    ],
)
def test_each_mistake_has_its_message_and_exit_code(
    words: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("not-a-probe.json").write_text('{"kind": "prediction", "schema": 1}')
    assert call(monkeypatch, "predict", *words) == code
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_predicting_imports_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['hvd-adam', 'predict', '--sigma', '20', '--eps', '1'];"
        "from hvd_adam.cli import main; main(); print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.endswith("False False\n")


def test_an_interval_that_reaches_down_to_0_is_no_mistake() -> None:
    found = predict(Range(2.0, 0.0, 3.0), 1.0, theta=float("inf"), workers=[1, 2, 4])
    assert found.s_star == (4.0, 0.0, 9.0) and found.elbow.low == found.pays.low == 0
    assert found.rows[0].relative.low == 1 and found.rows[0].share.low == 0


def test_an_elbow_without_an_upper_end_is_told_and_not_drawn(tmp_path: Path) -> None:
    found = predict(Range(2.0, 1.0, float("inf")), 1.0, theta=1.0, workers=[1, 2])
    assert "at least" in curve(found) and "or more" in curve(found)
    assert json.loads(json.dumps(to_plain(found), allow_nan=False))["elbow"]["high"] is None
    with pytest.raises(ConfigError, match="Probe longer"):
        draw(found, tmp_path / "x.svg")


def test_a_bound_that_no_run_meets_is_no_number() -> None:
    problem = {"sigma": 20.0, "d": 10, "alpha": 1.0, "theta": 1.0, "beta": 0.9, "L": 8.0, "G": 10.0, "gap": 10.0}
    assert np.isinf(steps_to(1e-80, 1, **problem)) and np.isfinite(steps_to(1.0, 1, **problem))
