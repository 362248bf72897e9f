"""Writes docs/reproduction.md:   python -m hvd_adam.reproduce [NAME...]

Names are taken over from runs/reproduce/ into docs/reproduction/ first; without any, the page is only written again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hvd_adam.reproduce.page import build, take


def main(names: list[str]) -> int:
    """The exit code: 2 where a named result is missing."""
    results = Path("docs/reproduction")
    for name in names:
        if not take(Path("runs/reproduce"), results, name):
            sys.stderr.write(f"{name}: there is no full result. Make one first: hvd-adam reproduce {name}\n")
            return 2
    found = build(results, Path("docs/reproduction.md"))
    sys.stdout.write(f"docs/reproduction.md: {', '.join(found) or 'no results'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
