"""A slice of the campaign, with bounds five standard errors wide; the whole is in docs/validity.md."""

import pytest

from tests.campaign.coverage import Row, judge_hyperbola, judge_picks, judge_range, judge_slope, measure
from tests.campaign.simulator import Kind


@pytest.mark.parametrize(
    ("kind", "judges"),
    [
        (Kind(censored=0.2, seeds=3), (judge_slope, judge_range)),
        (Kind(grid=0.25, seeds=5), (judge_slope, judge_range)),
        (Kind("curve", censored=0.5, grid=0.25, seeds=5), (judge_slope, judge_range, judge_hyperbola)),
        (Kind("curve", grid=0.25, seeds=3), (judge_slope, judge_hyperbola)),
    ],
    ids=str,
)
def test_intervals_hold_the_truth_as_often_as_they_say(kind, judges):
    found = measure(Row(kind, judges), count=400)
    for name in ("slope", "B_crit", "S_min"):
        assert name not in found or 89.5 <= found[name].percent <= 99.9, found[name]
    assert "off by > 1" not in found or found["off by > 1"].percent <= 8
    for name in ("bends", "no hyperbola"):
        assert name not in found or found[name].percent <= 10.5, found[name]


def test_a_slope_of_nine_tenths_is_told_from_linear():
    assert measure(Row(Kind(slope=-0.9), (judge_slope,)), count=200)["not -1"].percent >= 90


def test_picks_shared_by_a_cell_are_carried_by_the_interval():
    found = measure(Row(Kind(noise="picks", seeds=3), (judge_picks,)), count=400)
    assert found["slope"].percent >= 89.5 > found["if conditional"].percent
