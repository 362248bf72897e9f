"""A report as Markdown; pictures are links to files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hvd_adam.study.pictures import Picture
from hvd_adam.study.report.blocks import Block, Code, Gallery, Heading, Table, Text, Verdict
from hvd_adam.study.verdict import WARNING


def markdown(blocks: Iterable[Block], figures: str | None = None) -> str:
    """The whole text.

    Args:
        figures: folder of the picture files, as the text shall name it; None: the numbers behind them alone.
    """
    return "\n\n".join(part for block in blocks for part in _block(block, figures, 2)) + "\n"


def _block(block: Block, figures: str | None, level: int) -> list[str]:
    if isinstance(block, Verdict):
        told = [f"- {'**Mind:** ' if one.tone == WARNING else ''}{_escape(one.text)}" for one in block.sentences[1:]]
        lead = [f"**{_escape(one.text)}**" for one in block.sentences[:1]]
        drawn = _picture(block.picture, figures) if block.picture else []
        return [f"# {block.title}", *lead, *(["\n".join(told)] if told else []), _escape(block.about), *drawn]
    if isinstance(block, Heading):
        return [f"{'#' * level} {_escape(block.text)}"]
    if isinstance(block, Text):
        return [_escape(text) for text in block.paragraphs]
    if isinstance(block, Table):
        return [_table(block.head, block.rows)]
    if isinstance(block, Gallery):
        return [part for picture in block.pictures for part in _picture(picture, figures)]
    if isinstance(block, Code):
        return [f"```\n{block.text}\n```"]
    return [
        f"{'#' * (level + 1)} {_escape(block.summary)}",
        *(p for one in block.blocks for p in _block(one, figures, level + 1)),
    ]


def _picture(picture: Picture, figures: str | None) -> list[str]:
    shown = [f"![{_escape(picture.alt)}]({figures}/{picture.name}.svg)"] if figures else []
    return [f"### {picture.title}", _escape(picture.note), *shown, _table(*picture.table)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(value: str) -> str:
    return value if value == "---" else _escape(value).replace("|", "\\|").replace("\n", " ")


def _escape(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
