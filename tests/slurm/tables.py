"""Prints the tables of kills, interruptions and stalls in docs/reliability.md, from build/campaign/.

python tests/slurm/tables.py
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from statistics import median
from typing import Any

from campaign import EVERY, RECORDS

Record = dict[str, Any]


def read(name: str) -> list[Record]:
    """What was kept of that campaign."""
    return [json.loads(line) for line in (RECORDS / f"{name}.jsonl").read_text().splitlines()]


def show(header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A table in Markdown."""
    titles = list(header)
    print("| " + " | ".join(titles) + " |\n|" + "---|" * len(titles))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print()


def whereabouts(some: list[Record]) -> list[int]:
    """How many hit a start-up, a step, an evaluation, a checkpoint's write; some hit two at once."""
    return [sum(what in one["at"] for one in some) for what in ("start-up", "step", "evaluation", "write")]


def losses(some: list[Record]) -> tuple[str, str]:
    """Steps made twice: median and most; and the most of those that count."""
    lost = [one["lost"] for one in some if one["again"]]
    within = [one["lost"] - one["beside"] for one in some if one["again"]]
    return f"{median(lost):g} ({max(lost)})", str(max(within))


def right(some: list[Record]) -> str:
    """Runs that ended as the undisturbed one."""
    ends = {one["run"]: one.get("code") == 0 and one.get("equal", False) for one in some}
    return f"{sum(ends.values())} of {len(ends)}"


def by_kind(name: str, key: str, number: str) -> None:
    """Kills and interruptions: a row a kind."""
    records = [one for one in read(name) if "failed" not in one]
    kinds = dict.fromkeys(one[key] for one in records)
    at = ("start-up", "step", "evaluation", "write")
    header = (key, number, *at, "lost, median (most)", "less those beside a write", "runs right")
    rows = []
    for kind in [*kinds, None]:
        some = [one for one in records if kind in (None, one[key])]
        rows.append((kind or "all", len(some), *whereabouts(some), *losses(some), right(some)))
    show(header, rows)


def stalls() -> None:
    """A row a kind: seconds until all ranks had ended, until it was queued again, and whether it was named."""
    records = [one for one in read("stalls") if "failed" not in one]
    rows = []
    for kind in dict.fromkeys(one["kind"] for one in records):
        some = [one for one in records if one["kind"] == kind]
        spans = [[one[what] for one in some] for what in ("ended", "queued")]
        seconds = [f"{median(span):.1f} ({min(span):.1f} to {max(span):.1f})" for span in spans]
        named = [f"{sum(one['named'][k] for one in some)} of {len(some)}" for k in (0, -1)]
        rows.append((kind, len(some), *seconds, *named, right(some)))
    show(("stall", "n", "ranks ended, s", "queued again, s", "named at 8.5 s", "named afterwards", "runs right"), rows)


if __name__ == "__main__":
    kills = read("kills")
    print(f"{len(kills)} kills; cut: {sum(one['cut'] for one in kills)}; ", end="")
    print(f"damaged: {sum(one['damaged'] for one in {k['run']: k for k in kills}.values())}; interval: {EVERY} steps\n")
    by_kind("kills", "kind", "kills")
    by_kind("interruptions", "kind", "interruptions")
    stalls()
