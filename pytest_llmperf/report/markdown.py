"""How is text that others wrote shown by Markdown as it is, and as nothing else?

GitHub looks for mentions and references (``@name``, ``#12``, ``GH-12``) in what it has rendered, so
that neither a backslash nor a character reference stops it; a character between the two does.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

LONGEST = 300
"""Characters of a cell."""
_REFERENCE = re.compile(r"(@|#(?=\d)|\bGH-(?=\d))", re.IGNORECASE)
_ZERO_WIDTH_SPACE = "\u200b"
_SPECIAL = re.compile(r"([\\`*_\[\]|~#!])")


def escaped(text: str) -> str:
    """One line: no markup, no HTML, no mention or reference; the end of a long one is left out."""
    line = " ".join(text.split())
    short = line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
    apart = _REFERENCE.sub(rf"\1{_ZERO_WIDTH_SPACE}", short)
    return _SPECIAL.sub(r"\\\1", html.escape(apart, quote=False))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0) -> list[str]:
    """Lines of a table. ``rows``: cells that are Markdown; the last ``numbers`` are set right."""
    kinds = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return [_row(head), _row(kinds), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
