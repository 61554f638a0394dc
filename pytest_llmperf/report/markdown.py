"""How is text that others wrote shown by Markdown as it is, and as nothing else?"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

LONGEST = 300
"""Characters of a cell."""
_SPECIAL = re.compile(r"([\\`*_\[\]|~#!])")


def escaped(text: str) -> str:
    """One line: no markup, no HTML, no mention of anybody; the end of a long one is left out."""
    line = " ".join(text.split())
    short = line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
    return _SPECIAL.sub(r"\\\1", html.escape(short, quote=False)).replace("@", "&#64;")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0) -> list[str]:
    """Lines of a table. ``rows``: cells that are Markdown; the last ``numbers`` are set right."""
    kinds = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return [_row(head), _row(kinds), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
