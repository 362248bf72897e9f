"""What a reproduction came to: statements with their evidence, tables, pictures, and the command that made them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scipy import stats

from hvd_adam.files import write_whole

YES, NO, UNDECIDED = "agrees", "differs", "undecided"
SCHEMA = 1


@dataclass(frozen=True)
class Statement:
    """One thing that the paper (or the theory) says, and what was measured.

    Attributes:
        claim: what is said, and where.
        measured: figures with their intervals.
        n: of what, and how many.
        verdict: agrees, differs or undecided; `rule` says when which.
        why: the reason, where it does not simply agree.
    """

    claim: str
    measured: str
    n: str
    verdict: str
    rule: str
    why: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the report; cells are text."""

    title: str
    header: list[str]
    rows: list[list[str]]


@dataclass
class Report:
    """All of one reproduction.

    Attributes:
        pictures: file name and caption of each.
        data: plain numbers behind statements and pictures; nan and inf as text.
    """

    name: str
    title: str
    command: str
    quick: bool
    protocol: str
    statements: list[Statement] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 all agree, 5 one differs, 6 none differs, but one is undecided."""
        verdicts = {statement.verdict for statement in self.statements}
        return 5 if NO in verdicts else 6 if UNDECIDED in verdicts else 0

    def verdict_text(self) -> str:
        """What the command prints, and verdict.txt holds."""
        lines = [f"{self.title}{' (quick: few runs, not evidence)' if self.quick else ''}"]
        for one in self.statements:
            lines += [f"  {one.verdict:9}  {one.claim}", f"             {one.measured}  [{one.n}]"]
            if one.why:
                lines.append(f"             {one.why}")
        return "\n".join([*lines, f"  made by: {self.command}", f"  {self.seconds:.0f} s"])

    def save(self, folder: Path) -> None:
        """result.json, verdict.txt and command beside the pictures."""
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(
            folder / "result.json", json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, allow_nan=False) + "\n"
        )
        write_whole(folder / "verdict.txt", self.verdict_text() + "\n")
        write_whole(folder / "command", self.command + "\n")


def load(path: Path) -> Report:
    """A report from its result.json."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    plain.pop("schema")
    plain["statements"] = [Statement(**one) for one in plain["statements"]]
    plain["tables"] = [Table(**one) for one in plain["tables"]]
    plain["pictures"] = [(name, caption) for name, caption in plain["pictures"]]
    return Report(**plain)


def share(successes: int, n: int) -> tuple[float, float, float]:
    """A share with its exact 95 % interval (Clopper and Pearson 1934)."""
    interval = stats.binomtest(successes, n).proportion_ci(0.95, "exact")
    return successes / n, float(interval.low), float(interval.high)


def share_text(successes: int, n: int) -> str:
    """ "0.93 (0.91 to 0.95)" """
    middle, low, high = share(successes, n)
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"
