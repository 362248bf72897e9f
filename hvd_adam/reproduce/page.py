"""docs/reproduction.md from the committed results: what the paper shows, what was measured, whether they agree."""

from __future__ import annotations

from pathlib import Path

from hvd_adam.files import write_whole
from hvd_adam.reproduce import NAMES
from hvd_adam.reproduce.report import NO, UNDECIDED, YES, Report, Statement, Table, load

HEAD = """# Reproduction

The figures and claims of Chen et al. 2022 (JMLR 23(229)), and of Reddi et al. 2018, made again. `make reproduction`
writes this page from the results in docs/reproduction/; each section names the command that measured them (add
`--quick` for a run of seconds). Every verdict follows the rule that is stated with it.
"""


def build(results: Path, page: Path) -> list[str]:
    """Writes the page from results/NAME.json; returns the names that it found."""
    reports = {name: load(results / f"{name}.json") for name in NAMES if (results / f"{name}.json").is_file()}
    parts = [HEAD, _summary(list(reports.values())), *(_section(report, results.name) for report in reports.values())]
    write_whole(page, "\n".join(parts))
    return list(reports)


def take(runs: Path, results: Path, name: str) -> bool:
    """Copies a full result and its pictures from runs/reproduce/NAME; False where there is none."""
    source = runs / name / "result.json"
    if not source.is_file():
        return False
    results.mkdir(parents=True, exist_ok=True)
    write_whole(results / f"{name}.json", source.read_text(encoding="utf-8"))
    for picture, _ in load(source).pictures:
        write_whole(results / picture, (runs / name / picture).read_text(encoding="utf-8"))
    return True


def _summary(reports: list[Report]) -> str:
    lines = ["| | agrees | differs | undecided |", "|---|---|---|---|"]
    for report in reports:
        verdicts = [statement.verdict for statement in report.statements]
        counts = " | ".join(str(verdicts.count(verdict)) for verdict in (YES, NO, UNDECIDED))
        lines.append(f"| [{report.title}](#{_anchor(report.title)}) | {counts} |")
    return "\n".join([*lines, ""])


def _section(report: Report, folder: str) -> str:
    lines = [f"## {report.title}", "", "    " + report.command, "", *_protocol(report.protocol), ""]
    for picture, caption in report.pictures:
        lines += [f"![{caption}]({folder}/{picture})", "", caption, ""]
    lines += ["| claim | measured | n | verdict |", "|---|---|---|---|"]
    lines += [_row(statement) for statement in report.statements]
    lines += ["", "When a statement agrees:", ""]
    lines += [f"* {rule}" for rule in dict.fromkeys(statement.rule for statement in report.statements)]
    for table in report.tables:
        lines += ["", *_table(table)]
    return "\n".join([*lines, ""])


def _protocol(text: str) -> list[str]:
    """The module's docstring, without its first line, which the title repeats."""
    return [line for line in text.strip().splitlines()[1:] if line.strip()] or [text.strip()]


def _row(statement: Statement) -> str:
    why = f" {statement.why}" if statement.why else ""
    cells = (statement.claim, statement.measured + "." + why, statement.n, f"**{statement.verdict}**")
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _table(table: Table) -> list[str]:
    rows = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    return [f"**{table.title}**", "", "| " + " | ".join(table.header) + " |", "|" + "---|" * len(table.header), *rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*") if not text.startswith("**") else text


def _anchor(title: str) -> str:
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")
