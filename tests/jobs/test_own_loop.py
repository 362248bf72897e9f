"""The example that the README points to: the same on one rank and on two."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]


def test_a_plain_loop_learns_the_same_on_one_rank_and_on_two(tmp_path: Path) -> None:
    losses = []
    for ranks in (1, 2):
        trace = tmp_path / f"{ranks}.jsonl"
        command = [str(TREE / "launchers" / "mpirun"), "-n", str(ranks), "--", sys.executable]
        done = subprocess.run(
            [*command, str(TREE / "examples" / "own_loop.py"), str(trace)], capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, done.stderr
        first, *steps = map(json.loads, trace.read_text().splitlines())
        assert (first["kind"], first["schema"]) == ("start", 1)
        losses.append([line["loss"] for line in steps])
    assert len(losses[0]) == 100 and losses[0][-1] < 1e-3 * losses[0][0]
    assert max(abs(a - b) for a, b in zip(*losses, strict=True)) < 1e-4
