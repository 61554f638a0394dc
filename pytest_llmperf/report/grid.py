"""How do rows of short cells stand under their titles? For what needs no color and no borders."""

from __future__ import annotations

from collections.abc import Sequence

_BETWEEN = "  "


def grid(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Lines; the first column to the left, all others to the right. The first row is the titles."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        indent
        + _BETWEEN.join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
