"""Which colours does the page use, on which ground, in the light and in the dark?

Everything else names a colour by its token, in the style sheet and in the charts. ``PAIRS`` are the
combinations that are used, each with the contrast that WCAG 2.1 asks for at level AA: 4.5 of text
(1.4.3), 3 of marks that carry a meaning (1.4.11).
"""

from __future__ import annotations

TEXT, MARK = 4.5, 3.0

LIGHT = {
    "ground": "#ffffff",
    "raised": "#f4f6f8",
    "line": "#d6dbe2",
    "edge": "#7d8693",
    "ink": "#161a20",
    "muted": "#535b68",
    "accent": "#0a58a6",
    "second": "#8a4b00",
    "third": "#6b3fa0",
    "fourth": "#0b6b62",
    "good": "#17652f",
    "open": "#765000",
    "bad": "#ad1f1e",
    "good-ground": "#e2f2e6",
    "open-ground": "#faefd4",
    "bad-ground": "#fbe5e4",
    "none-ground": "#e9ecf0",
}
DARK = {
    "ground": "#11151a",
    "raised": "#191e25",
    "line": "#333b46",
    "edge": "#7f8a99",
    "ink": "#e6eaef",
    "muted": "#a4adba",
    "accent": "#7bb6f6",
    "second": "#e0a458",
    "third": "#c3a2f2",
    "fourth": "#63cbbd",
    "good": "#71cf8e",
    "open": "#e4b95f",
    "bad": "#ff8f87",
    "good-ground": "#16301f",
    "open-ground": "#33290f",
    "bad-ground": "#3c1b1b",
    "none-ground": "#272e37",
}
SERIES = ("accent", "second", "third", "fourth")
"""Of several machines or engines, each with a shape of its own."""
_WORDS = ("ink", "muted", "accent", "good", "open", "bad")

PAIRS = (
    *((word, f"{word}-ground", TEXT) for word in ("good", "open", "bad")),
    ("muted", "none-ground", TEXT),
    *((word, ground, TEXT) for word in _WORDS for ground in ("ground", "raised")),
    *((mark, ground, MARK) for mark in (*SERIES, "edge") for ground in ("ground", "raised")),
)
"""What stands on what."""


def contrast(one: str, other: str) -> float:
    """Of two colours ``#rrggbb``: 1 to 21 (WCAG 2.1, "contrast ratio")."""
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    """Relative luminance of sRGB (WCAG 2.1)."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
