"""How does a series look in a few lines of a terminal, whatever characters it can show?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from pytest_llmperf.report import words

WIDTH = 72
HEIGHT = 8
_WIDEST_STEP = 3
_LONGEST_LABEL = 9

MARKS = {
    "session": ("●", "o"),
    "seed": ("◆", "s"),
    "machine had changed": ("○", "?"),
    "PASSED": ("●", "o"),
    "IMPROVED": ("▲", "^"),
    "NO_BASELINE": ("·", "."),
    "INCONCLUSIVE": ("○", "?"),
    "REGRESSED": ("▼", "v"),
    "OVER_BUDGET": ("×", "x"),
    "INVALID": ("!", "!"),
    "not judged": ("◇", "="),
}
"""What a dot can be, and how it is drawn with and without Unicode."""

_LINES = {"axis": "┤|", "corner": "└+", "centre": "─-", "border": "┄.", "between": "┊:"}
_PLAIN = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "·": "-", "±": "+/-", "×": "x", "→": "->", "…": "..."}
)


@dataclass(frozen=True)
class Dot:
    """One value of a series."""

    value: float
    date: datetime
    mark: str = "session"
    """A key of ``MARKS``."""
    group: str = ""
    """Consecutive dots of one group stand together, such as those of an epoch."""


@dataclass(frozen=True)
class Band:
    """What the latest group is compared with, in the unit of the values."""

    low: float
    centre: float
    high: float


def can_show(encoding: str | None) -> bool:
    """Whether an output of this encoding has the characters of a plot."""
    drawn = "".join(sign for sign, _ in MARKS.values()) + "".join(_LINES.values())
    try:
        drawn.encode(encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str, encoding: str | None) -> str:
    """The text as this encoding can say it: what it lacks is spelled out, never dropped."""
    encoding = encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    return text


def plot(
    dots: Sequence[Dot],
    band: Band | None = None,
    *,
    unicode: bool = True,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> list[str]:
    """Draw one or more dots, the latest at the right, and say below when and what they are.

    The numbers at the axis are the highest, the lowest, and the centre of the band, which goes
    first where two fall into one row. The oldest dots that do not fit into ``width`` are left out,
    and counted.
    """
    shown = dots
    while True:
        scale = _Scale.of(shown, band, height)
        axis = max(map(len, scale.labels.values())) + 1
        groups = [(name, list(each)) for name, each in groupby(shown, key=lambda dot: dot.group)]
        room = width - axis - 1 - (len(groups) - 1)
        if len(shown) <= max(1, room):
            break
        shown = shown[1:]
    step = max(1, min(_WIDEST_STEP, room // len(shown)))
    sheet = _Sheet(scale, step, unicode)
    for index, (name, members) in enumerate(groups):
        if index:
            sheet.separate()
        sheet.draw(name, members, band if index == len(groups) - 1 else None)
    first, last = (f"{dot.date:%Y-%m-%d}" for dot in (shown[0], shown[-1]))
    lines = [*sheet.lines(axis), first if first == last else f"{first} … {last}"]
    lines += _legend([dot.mark for dot in shown], unicode, width)
    if len(shown) < len(dots):
        lines.append(f"{len(dots) - len(shown)} older ones have no room here")
    return lines


def _legend(marks: Sequence[str], unicode: bool, width: int) -> list[str]:
    """What the dots mean that were drawn."""
    drawn = [f"{MARKS[each][not unicode]} {each}" for each in MARKS if each in marks]
    lines = [drawn[0]]
    for each in drawn[1:]:
        longer = f"{lines[-1]}   {each}"
        lines[-1:] = [longer] if len(longer) <= width else [lines[-1], each]
    return lines


@dataclass(frozen=True)
class _Scale:
    """Which row a value belongs to; 0 is the upmost."""

    top: float
    bottom: float
    height: int
    labels: dict[int, str]

    @classmethod
    def of(cls, dots: Sequence[Dot], band: Band | None, height: int) -> _Scale:
        values = [dot.value for dot in dots]
        values += [band.low, band.centre, band.high] if band else []
        top, bottom = max(values), min(values)
        if top == bottom:
            slack = abs(top) / 100 or 1.0
            top, bottom = top + slack, bottom - slack
        bare = cls(top, bottom, height, {})
        marked = {0: top, height - 1: bottom}
        if band is not None:
            marked[bare.row(band.centre)] = band.centre
        texts = _told_apart(list(marked.values()))
        return cls(top, bottom, height, dict(zip(marked, texts, strict=True)))

    def row(self, value: float) -> int:
        return round((self.top - value) / (self.top - self.bottom) * (self.height - 1))


class _Sheet:
    """Columns that are filled from the left."""

    def __init__(self, scale: _Scale, step: int, unicode: bool) -> None:
        self._scale, self._step, self._unicode = scale, step, unicode
        self._columns: list[list[str]] = []
        self._names = ""

    def separate(self) -> None:
        self._columns.append([self._line("between")] * self._scale.height)
        self._names = self._names[: len(self._columns) - 1].ljust(len(self._columns))

    def draw(self, name: str, dots: Sequence[Dot], band: Band | None) -> None:
        begin = len(self._columns)
        room = len(dots) * self._step
        for _ in range(room):
            column = [" "] * self._scale.height
            if band is not None:
                for value, line in ((band.low, "border"), (band.high, "border")):
                    column[self._scale.row(value)] = self._line(line)
                column[self._scale.row(band.centre)] = self._line("centre")
            self._columns.append(column)
        for index, dot in enumerate(dots):
            column = self._columns[begin + index * self._step + self._step // 2]
            column[self._scale.row(dot.value)] = MARKS[dot.mark][not self._unicode]
        short = name.rpartition(" ")[2]
        fitting = next((each for each in (name, short) if len(each) <= room), "")
        self._names += fitting.ljust(room)

    def lines(self, axis: int) -> list[str]:
        drawn = []
        for row in range(self._scale.height):
            label = self._scale.labels.get(row, "").rjust(axis - 1)
            cells = "".join(column[row] for column in self._columns)
            drawn.append(f"{label} {self._line('axis')}{cells}".rstrip())
        below = self._line("centre") * len(self._columns)
        drawn.append(f"{' ' * axis}{self._line('corner')}{below}")
        if self._names.strip():
            drawn.append(f"{' ' * (axis + 1)}{self._names}".rstrip())
        return drawn

    def _line(self, name: str) -> str:
        return _LINES[name][not self._unicode]


def _told_apart(values: Sequence[float]) -> list[str]:
    """The numbers, with as many digits as it takes for unequal ones to read so."""
    texts = [words.number(value) for value in values]
    for digits in range(1, 10):
        if len(set(texts)) == len(set(values)):
            break
        texts = [f"{value:.{digits}f}" for value in values]
    return [
        text if len(text) <= _LONGEST_LABEL else f"{value:.3g}"
        for text, value in zip(texts, values, strict=True)
    ]
