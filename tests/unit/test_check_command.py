"""hvd-adam check as a user runs it: exit codes, messages, the screen, the picture."""

from __future__ import annotations

import json
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from hvd_adam.commands.check import check
from hvd_adam.errors import HvdAdamError


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and output, as `hvd_adam.cli.main` would have them."""
    result = CliRunner().invoke(check, arguments)
    if isinstance(result.exception, HvdAdamError):
        return result.exception.exit_code, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


GOOD = ("--theta", "1 - 0.5/t", "--alpha")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((*GOOD, "0.1/sqrt(t)"), 0, "CONVERGES"),
        ((*GOOD, "0.1"), 3, "clause 3: chi_t grows like t^0.5"),
        (("--algorithm", "adam", "--lr", "1e-3"), 3, "the ratio tends to 0.03162"),
        (("--algorithm", "theorem17"), 0, "as T grows"),
        (("--algorithm", "adagrad"), 3, "theta_t = 1 - 1/max(t, 2)"),
        (("--algorithm", "polynomial", "--set", "r=0.7", "--set", "s=0.35", "--steps", "1e12"), 0, "O(T^-0.175)"),
        (("--alpha", "0.1*(1 - t/T)", "--theta", "0.99"), 3, "judged at that last positive value"),
        (("--alpha", "0.1/sqrt(t)", "--theta", "1 - 2/t"), 3, "theta_t = -1 at t = 1"),
        (("configs/digits.yaml",), 3, "A2 fails there"),
        (("configs/toy.yaml",), 0, "breaks A4"),
        (("configs/digits.yaml", "algorithm.lr=0.01"), 3, "0.01*sqrt"),
        (("configs/digits.yaml", "--framework", "paper"), 3, "alpha_t 0.003\n"),
        ((*GOOD, "0.1/sqrt(t)", "--framework", "torch"), 0, "bias corrected"),
        # usage
        ((*GOOD, "0.1/sqr(t)"), 2, "'sqr' is not known; did you mean sqrt?"),
        ((*GOOD, "0.1/(t"), 2, "at character 7"),
        ((*GOOD, "t.real"), 2, "'.' is no part of an expression"),
        ((*GOOD, "__import__('os')"), 2, "at character"),
        ((*GOOD, "0.1/(t - 5)"), 2, "inf at t = 5"),
        ((*GOOD, "0.1/(t - 5)^2*0"), 2, "nan at t = 5"),
        ((*GOOD, "log(0 - t)"), 2, "nan at t = 1"),
        ((*GOOD, "exp(t)"), 2, "inf at t = 710"),
        ((*GOOD, "nan"), 2, "alpha: nan"),
        ((*GOOD, "1e999"), 2, "alpha: inf"),
        ((*GOOD, "0"), 2, "alpha: 0"),
        ((*GOOD, "0-1"), 3, "alpha_t = -1 at t = 1"),
        (("--alpha", "0.1", "--theta", "1"), 2, "it must lie in (0, 1)"),
        (("--alpha", "0.1", "--theta", "0.9", "--beta", "1"), 2, "it must lie in [0, 1)"),
        ((*GOOD, "0.1", "--steps", "0"), 2, "T is a whole number"),
        ((*GOOD, "0.1", "--steps", "-3"), 2, "T is a whole number"),
        ((*GOOD, "0.1", "--steps", "1.5"), 2, "T is a whole number"),
        ((*GOOD, "0.1", "--steps", "1e30"), 2, "from 1 to 2^53"),
        ((*GOOD, "0.1", "--steps", "inf"), 2, "T is a whole number"),
        ((*GOOD, "0.1", "--steps", "many"), 2, "T is a whole number"),
        ((*GOOD, "0.1+" * 2_500_000 + "t"), 2, "at most 1000 characters"),
        ((*GOOD, "(" * 10_000 + "t" + ")" * 10_000), 2, "at most 1000 characters"),
        ((*GOOD, "(" * 400 + "t" + ")" * 400), 2, "more than 50 levels"),
        ((*GOOD, "-" * 900 + "t"), 2, "more than 50 levels"),
        ((), 2, "nothing to check"),
        (("--alpha", "0.1"), 2, "--alpha without --theta"),
        (("--algorithm", "adm"), 2, "did you mean adam?"),
        (("--algorithm", "adagrad", "--theta", "0.9"), 2, "no such argument"),
        (("--algorithm", "path", "--set", "r"), 2, "KEY=VALUE"),
        (("configs/digits.yaml", "--lr", "0.1"), 2, "algorithm.lr"),
        (("configs/digits.yaml", "--algorithm", "adam"), 2, "say one of"),
        (("configs/digit.yaml",), 2, "configs/digits.yaml"),
        # a study: the worst of its cells decides
        (("configs/studies/toy-theorem17.yaml",), 0, "28 cells, 7 schedules CONVERGES"),
        (("configs/studies/digits.yaml",), 3, "4 of 4 schedules"),
        (("configs/studies/digits.yaml", "base.algorithm.name=polynomial"), 0, "in every cell"),
        (("configs/studies/mnist.yaml",), 3, "holds from t = 2"),
        (("configs/studies/digits.yaml", "base.algorithm.lr=0"), 2, "cell workers-1: alpha: 0"),
        (("configs/studies/digits.yaml", "--lr", "0.1"), 2, "a config says its own schedules"),
        (("configs/studies/digits.yaml", "--steps", "100"), 2, "how long its runs are"),
        (("configs/studies/digits.yaml", "--plot", "a.svg"), 2, "a picture shows those of one run"),
        (("configs/studies/digits.yaml", "base.algorithm.lr=0.1/sqr(t)"), 2, "did you mean sqrt?"),
        # a length that only the data know
        (("configs/mnist.yaml",), 3, "T = 1000000 is assumed: only the data tell how many steps 3 epochs are"),
        (("configs/mnist.yaml", "--steps", "500"), 3, "T = 500 alpha_t"),
        ((*GOOD, "0.1", "--plot", "a.pdf"), 2, "svg or png"),
        ((*GOOD, "0.1", "--plot", "/nowhere/a.svg"), 2, "cannot be written"),
        ((*GOOD, "0.1", "--plot", "."), 2, "is a directory"),
        (("--algorithm", "adam", "--lr", "1", "--set", "lr=0.5"), 2, "--lr and --set lr"),
    ],
)
def test_exit_code_and_message_are_those_of_the_case(arguments, code, text):
    found, output = run(*arguments)
    flat = " ".join(output.split())
    assert found == code
    assert text.lower() in output.lower() or text.lower() in flat.lower()


@pytest.mark.parametrize("arguments", [("--algorithm", "adam"), ("--algorithm", "theorem17"), ("configs/digits.yaml",)])
def test_the_report_fits_a_screen(arguments):
    lines = run(*arguments)[1].splitlines()
    assert len(lines) <= 22  # of 24: the prompt is there as well
    assert max(map(len, lines)) <= 80


def test_json_says_the_verdict_of_each_clause_and_its_evidence():
    code, output = run("--algorithm", "adam", "--json")
    plain = json.loads(output)
    assert code == 3
    assert [c["state"] for c in plain["clauses"]] == ["holds", "holds", "holds", "violated"]
    assert plain["clauses"][3]["evidence"]["kind"] == "proved"
    assert plain["constant"]["evidence"]["kind"] == "numeric"
    assert plain["change"]["changes"] == {"alpha_t": "0.001/t^0.25", "theta_t": "1 - 0.001/sqrt(t)"}


def test_json_has_no_number_that_json_does_not_know():
    code, output = run("--alpha", "0.1", "--theta", "1 - 0.5/t", "--json")
    assert code == 3
    json.loads(output, parse_constant=lambda name: pytest.fail(name))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--algorithm", "adam", "--set", "eps=foo"), "algorithm.eps: 'foo'"),
        (("--algorithm", "adamw", "--set", "weight_decay=x"), "algorithm.weight_decay: 'x'"),
        (("--algorithm", "adm"), "did you mean adam?"),
    ],
)
def test_arguments_of_another_kind_are_refused(words, text):
    code, said = run(*words)
    assert code == 2 and text.lower() in said.lower()


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_picture_is_written_with_its_three_panels(tmp_path, ending):
    path = tmp_path / f"adam.{ending}"
    assert run("--algorithm", "adam", "--plot", str(path))[0] == 3
    if ending == "png":
        assert path.read_bytes().startswith(b"\x89PNG")
        return
    groups = [g.get("id", "") for g in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}g")]
    assert sum(name.startswith("axes_") for name in groups) == 3


@pytest.fixture
def figures(monkeypatch):
    """What is drawn, in place of a file."""
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path: drawn.append(figure))
    return drawn


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(("algorithm", "constant"), [("theorem17", {0, 1, 2}), ("path", {0}), ("adam", {2})])
def test_a_panel_shows_a_constant_as_a_line_and_not_the_rounding_of_one(figures, algorithm, constant):
    run("--algorithm", algorithm, "--plot", "a.svg")
    for i, axes in enumerate(figures[0].axes):
        low, high = np.log(axes.get_ylim())
        heights = np.log(axes.lines[0].get_ydata())
        share = (np.nanmax(heights) - np.nanmin(heights)) / (high - low)  # of the panel's height
        assert share < 1e-3 if i in constant else share > 0.2, i


def test_the_title_of_a_picture_has_the_whole_of_both_schedules(figures):
    alpha = "0.001 / t^0.25 * (1 + 0 * log(t)) * (2 - 1) * (3 - 2) * (4 - 3) * (5 - 4)"
    assert run("--alpha", alpha, "--theta", "1 - 0.001/sqrt(t)", "--beta", "0.9", "--plot", "a.svg")[0] in (0, 3)
    title = figures[0].get_suptitle()
    assert max(map(len, title.splitlines())) <= 90
    said = title.replace("\n", "").replace(" ", "")
    assert f"alpha{alpha}".replace(" ", "") in said and said.endswith("theta1-0.001/sqrt(t)")


def test_check_imports_neither_torch_nor_matplotlib():
    program = (
        "import sys; from click.testing import CliRunner; from hvd_adam.commands.check import check;"
        "r = CliRunner().invoke(check, ['--algorithm', 'adam']); assert r.exit_code == 3, r.exception;"
        "print({'torch', 'matplotlib', 'scipy', 'numba', 'pydantic'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
