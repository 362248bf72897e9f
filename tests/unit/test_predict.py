"""`hvd-adam predict`: numbers in, curve out, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hvd_adam.cli import main
from hvd_adam.errors import ConfigError
from hvd_adam.probe.outlook import curve, to_plain
from hvd_adam.probe.picture import draw
from hvd_adam.theory import theorem17
from hvd_adam.theory.elbow import Range
from hvd_adam.theory.prediction import predict

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
    assert "120 to 2,002 samples = 30 to 501 workers of 4" in said  # 0.3 and 5 times 400.5
    assert "alpha_t x sqrt(k), 1 - theta_t x k, v_0 / k" in said


def test_each_row_follows_from_the_formulas(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = numbers(monkeypatch, capsys, "--sigma", 20, "--eps", 2, "--theta", 2, *FULL, "--known", "8:1000")
    assert found["s_star"]["value"] == pytest.approx((400 + 0.25) / 4)
    low, high = 0.3 * 400.25 / 4, 5 * 400.25 / 4
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
