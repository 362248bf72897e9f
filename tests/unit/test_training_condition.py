"""What training says and does about the sufficient condition before its first step."""

from __future__ import annotations

import pytest

from hvd_adam.config import from_plain
from hvd_adam.errors import ConditionError
from hvd_adam.training.condition import condition_line, require_condition

ADAM = {"algorithm": {"name": "adam"}, "steps": 100}
HOLDS = {"algorithm": {"name": "polynomial"}, "steps": 100}


@pytest.mark.parametrize(
    ("plain", "line"),
    [
        (HOLDS, "condition: holds (proved), rate T^-0.25 (log T)^0.5"),
        (
            ADAM,
            "condition: violated, clause 4: the ratio tends to 0.03162; "
            "change: alpha_t = 0.001/t^0.25 and theta_t = 1 - 0.001/sqrt(t); see hvd-adam check",
        ),
        (
            {"algorithm": {"name": "adam", "lr": 0.0}, "steps": 100},
            "condition: not judged, alpha: 0: it must lie in (0, inf)",
        ),
        ({**ADAM, "condition": "off"}, None),
    ],
)  # fmt: skip
def test_one_line_says_the_verdict_unless_it_is_off(plain, line):
    assert condition_line(from_plain(plain), 100) == line


def test_require_stops_with_3_and_names_the_change_where_the_condition_fails():
    with pytest.raises(ConditionError) as caught:
        require_condition(from_plain({**ADAM, "condition": "require"}), 100)
    assert caught.value.exit_code == 3
    assert "not shown to hold" in caught.value.why
    assert caught.value.cure.startswith("change alpha_t = 0.001/t^0.25 and theta_t = 1 - 0.001/sqrt(t)")


@pytest.mark.parametrize("plain", [{**HOLDS, "condition": "require"}, ADAM, {**ADAM, "condition": "off"}])
def test_a_run_goes_on_where_it_holds_or_is_not_required(plain):
    require_condition(from_plain(plain), 100)
