"""Markdown that shows names as they are, whatever they contain."""

from __future__ import annotations

import re

from markupsafe import Markup

from tvm_bnn.report.compare.blocks import Table

#: What Markdown, or HTML within it, would not show as it is.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|$~&])")


def escaped(text: object) -> str:
    """Text on one line; what is `Markup` stays as it is."""
    return text if isinstance(text, Markup) else _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def table(block: Table) -> Markup:
    """A table without its caption: words to the left, numbers to the right."""
    rule = [":--" if number < block.words else "--:" for number in range(len(block.heads))]
    lines = [map(escaped, block.heads), rule, *(map(escaped, row) for row in block.rows)]
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in lines))
