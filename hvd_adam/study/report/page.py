"""A report as one HTML file: nothing is fetched, nothing runs in it, and it reads in light, in dark and on paper."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from importlib.resources import files

from hvd_adam.study.pictures import Picture
from hvd_adam.study.pictures.canvas import STYLE
from hvd_adam.study.report.blocks import Block, Code, Gallery, Heading, Table, Text, Verdict
from hvd_adam.study.verdict import WARNING

_MINUS = re.compile(r"(?<![\w)-])-(?=[\d.])")


def page(blocks: Iterable[Block]) -> str:
    """The whole file."""
    blocks = list(blocks)
    title = next((block.title for block in blocks if isinstance(block, Verdict)), "study")
    style = files("hvd_adam.study.report").joinpath("page.css").read_text(encoding="utf-8") + STYLE
    body = "\n".join(_block(block) for block in blocks)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{escape(title)}: scaling study</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _block(block: Block) -> str:
    if isinstance(block, Verdict):
        return _verdict(block)
    if isinstance(block, Heading):
        return f"<h2>{typeset(block.text)}</h2>"
    if isinstance(block, Text):
        return '<div class="prose">' + "".join(f"<p>{_run_in(text)}</p>" for text in block.paragraphs) + "</div>"
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Gallery):
        return '<div class="gallery">' + "".join(_picture(picture) for picture in block.pictures) + "</div>"
    if isinstance(block, Code):
        return f'<pre tabindex="0"><code>{escape(block.text)}</code></pre>'
    inner = "".join(_block(one) for one in block.blocks)
    return f"<details><summary>{typeset(block.summary)}</summary>{inner}</details>"


def _verdict(block: Verdict) -> str:
    lead, *rest = block.sentences
    first = f'<p class="lead">{typeset(lead.text)}</p>'
    lines = []
    for one in rest:
        mark = "<strong>Mind:</strong> " if one.tone == WARNING else ""
        lines.append(f'<li class="{one.tone}">{mark}{typeset(one.text)}</li>')
    told = f"<ul>{''.join(lines)}</ul>" if lines else ""
    named = f'<h1>{escape(block.title)}</h1><p class="about">{typeset(block.about)}</p>'
    words = f'<div class="words">{named}{first}{told}</div>'
    return f"<header>{words}{_picture(block.picture) if block.picture else ''}</header>"


def _picture(picture: Picture) -> str:
    head, rows = picture.table
    numbers = _table(Table(head, rows, picture.title, frozenset(range(len(head)))))
    return (
        f'<figure id="{escape(picture.name)}"><figcaption><h3>{typeset(picture.title)}</h3>'
        f"<p>{typeset(picture.note)}</p></figcaption>{picture.html}"
        f"<details><summary>The numbers</summary>{numbers}</details></figure>"
    )


def _table(table: Table) -> str:
    css = ["words" if i in table.words else "number" for i in range(len(table.head))]
    head = "".join(f'<th scope="col" class="{c}">{typeset(name)}</th>' for c, name in zip(css, table.head, strict=True))
    rows = []
    for row in table.rows:
        cells = [
            f'<{tag} class="{c}" data-name="{escape(name)}">{typeset(value)}</{tag.split()[0]}>'
            for tag, c, name, value in zip(['th scope="row"', *["td"] * len(row)], css, table.head, row, strict=False)
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    caption = f'<caption class="unseen">{typeset(table.caption)}</caption>' if table.caption else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def typeset(text: str) -> str:
    r"""Text for a page: escaped, a minus in place of the hyphen before a number, no break inside a figure and its unit.

    >>> typeset("5 % < -1")
    '5\xa0% &lt; \u22121'
    """
    text = _MINUS.sub("\u2212", escape(text))
    return re.sub(r"(?<=\d) (?=%|ms\b|s\b)", "\u00a0", text)


def _run_in(text: str) -> str:
    """A paragraph that begins with a word or three and a full stop names itself."""
    found = re.match(r"([A-Z][\w ]{2,26})\. ", text)
    if not found:
        return typeset(text)
    return f"<strong>{typeset(found[1])}.</strong> {typeset(text[found.end() :])}"
