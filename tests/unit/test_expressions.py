"""The grammar against Python's own arithmetic, and its errors by position."""

import math
import random
import time

import numpy as np
import pytest

from hvd_adam.errors import ConfigError
from hvd_adam.schedules import Constant
from hvd_adam.schedules.expressions import DEEPEST, LONGEST, Expression, parse


@pytest.mark.parametrize(
    ("text", "t", "value"),
    [
        ("0.001/sqrt(t)", 4, 0.0005),
        ("1 - 0.9/t^0.5", 9, 0.7),
        ("1 - 1/T", 1, 0.99),
        ("t", 3, 3.0),
        ("2 + 3*4", 1, 14.0),
        ("10 - 2 - 3", 1, 5.0),  # from the left
        ("24/4/2", 1, 3.0),
        ("2^3^2", 1, 512.0),  # from the right
        ("2**3", 1, 8.0),
        ("-2^2", 1, -4.0),  # the power binds tighter
        ("2^-1", 1, 0.5),
        ("-t*-t", 3, 9.0),
        ("--t", 3, 3.0),
        ("(1 + 2)*3", 1, 9.0),
        ("min(t, 5) + max(t, 5)", 7, 12.0),
        ("exp(log(t))", 7, 7.0),
        ("cos(pi*t)", 3, -1.0),
        (".5e1*t", 2, 10.0),
        ("5.e-1*t", 2, 1.0),
        ("  t\n + 1 ", 1, 2.0),
        ("0.1*(1 + cos(pi*min(t/T, 1)))/2", 100, 0.0),
    ],
)
def test_value_is_the_one_worked_out_by_hand(text, t, value):
    assert parse(text).with_horizon(100)(t) == pytest.approx(value, rel=1e-14, abs=1e-16)


def test_random_expressions_agree_with_python():
    draw = random.Random(0)

    def build(depth):
        if depth == 0:
            return draw.choice(["t", "2", "0.5", "pi", "3e-1"])
        left, right = build(depth - 1), build(draw.randrange(depth))
        return draw.choice(
            [f"{left} + {right}", f"{left} - {right}", f"({left})*({right})", f"-({left})", f"max({left}, {right})",
             f"{left}*{right}", f"cos({left})", f"exp(-({left})^2)", f"({left})/(1 + ({right})^2)"]
        )  # fmt: skip

    known = {"pi": math.pi, "max": max, "cos": math.cos, "exp": math.exp, "__builtins__": {}}
    for _ in range(300):
        text = build(draw.randrange(1, 5))
        for t in (1, 2, 7):
            expected = eval(text.replace("^", "**"), {**known, "t": float(t)})
            assert parse(text)(t) == pytest.approx(expected, rel=1e-11, abs=1e-12), text


@pytest.mark.parametrize(
    ("text", "at", "said"),
    [
        ("", 1, "The end stands where a value is expected"),
        ("1 +", 4, "The end stands where a value is expected"),
        ("2 t", 3, "'t' is not expected here"),
        ("1/t)", 4, "')' is not expected here"),
        ("(1/t", 5, "')' is expected"),
        ("* t", 1, "* stands where a value is expected"),
        ("sqroot(t)", 1, "did you mean sqrt?"),
        ("x + 1", 1, "Known are t, T, pi, sqrt, exp, log, cos, min, max"),
        ("sqrt t", 6, "'(' is expected"),
        ("min(t)", 6, "It takes 2"),
        ("sqrt(t, 2)", 10, "It takes 1"),
        ("t.real", 2, "'.' is no part of an expression"),
        ("t@2", 2, "'@' is no part of an expression"),
        ("__import__('os')", 1, "'__import__' is not known"),
        ("1e", 2, "'e' is not expected here"),
        ("0x10", 2, "'x10' is not expected here"),
        ("t[0]", 2, "'[' is no part of an expression"),
        ("lambda: t", 1, "'lambda' is not known"),
        ("\N{ARABIC-INDIC DIGIT THREE}", 1, "is no part of an expression"),
        ("t +\n @", 6, "'@' is no part of an expression"),
        ("1 + " * 100 + "@" + " + t" * 100, 401, "'@' is no part of an expression"),
    ],
)
def test_error_points_at_the_character(text, at, said):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    message = str(caught.value)
    assert f"character {at}:" in message and said in message
    shown, pointer = message.split("\n")[1:3]
    place = pointer.index("^")
    assert text[at - 1 : at].replace("\n", " ") == shown[place : place + 1]
    assert len(shown) < 100  # an excerpt where the text is long


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000 + "t" + ")" * 10_000,
        "(" * 400 + "t" + ")" * 400,
        "-" * 900 + "t",
        "2^" * 400 + "t",
        "sqrt(" * 150 + "t" + ")" * 150,
        "t+" * 5_000_000 + "t",
        "1" * 10_000_000,
    ],
    ids=lambda text: f"{text[:6]}...{len(text)}",
)
def test_hostile_text_is_refused_fast(text):
    begin = time.perf_counter()
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert time.perf_counter() - begin < 0.5
    assert len(str(caught.value)) < 500


def test_the_longest_and_the_deepest_text_still_work():
    terms = LONGEST // 2
    assert parse("+".join("t" * terms))(1) == terms
    assert parse("+".join("t" * terms)).complement(1) == 1 - terms
    assert parse("*".join("t" * terms))(1) == 1
    levels = DEEPEST // 2 - 1
    assert parse("(" * levels + "t" + ")" * levels)(3) == 3.0


def test_a_plain_number_is_a_constant():
    assert parse(" 1e-3 ") == Constant(0.001)


def test_an_expression_says_itself_as_its_text():
    schedule = parse("1 - 0.9/t^0.5")
    assert schedule.to_plain() == str(schedule) == "1 - 0.9/t^0.5"
    assert schedule.with_horizon(5) is schedule
    assert Expression("1/T", 4).to_plain() == {"expression": {"text": "1/T", "horizon": 4}}


def test_undefined_values_are_numbers_not_exceptions():
    assert math.isinf(parse("1/(t - 1)")(1)) and math.isnan(parse("log(-t)")(1))
    with np.errstate(all="raise"):
        assert parse("exp(1000*t)")(1) == math.inf
