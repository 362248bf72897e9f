"""A report before it has a format: blocks that a page, a text or a browser can each write in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from hvd_adam.study.pictures import Picture
from hvd_adam.study.verdict import Sentence


@dataclass(frozen=True)
class Verdict:
    """Title, what was studied, the sentences, and the one picture that stands beside them."""

    title: str
    about: str
    sentences: Sequence[Sentence]
    picture: Picture | None = None


@dataclass(frozen=True)
class Heading:
    """The name of what follows."""

    text: str


@dataclass(frozen=True)
class Text:
    """Paragraphs."""

    paragraphs: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows under a head. `wide` columns are text and stand to the left."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    words: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side where there is room."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Code:
    """Text to be copied."""

    text: str


@dataclass(frozen=True)
class Folded:
    """What is shown when asked for."""

    summary: str
    blocks: Sequence[Block] = field(default_factory=tuple)


Block: TypeAlias = "Verdict | Heading | Text | Table | Gallery | Code | Folded"
