"""What a page is made of, before it is HTML or Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Items:
    """A list."""

    kind: ClassVar[str] = "items"
    items: list[str]


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    kind: ClassVar[str] = "code"
    lines: list[str]


@dataclass(frozen=True)
class Table:
    """A table with a caption.

    words : how many columns from the left are words; the others are numbers. marked : rows to stress. long : whether to
    fold it away on a screen.
    """

    kind: ClassVar[str] = "table"
    caption: str
    heads: list[str]
    rows: list[list[str]]
    words: int = 1
    marked: frozenset[int] = frozenset()
    long: bool = False


@dataclass(frozen=True)
class Gallery:
    """The pictures of a section (`pictures.Picture.section`)."""

    kind: ClassVar[str] = "gallery"
    section: str


Block = Text | Items | Code | Table | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it. level : 2 or 3, of the heading."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    level: int = 2
