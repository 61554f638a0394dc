"""What stands on the page? Texts, tables and figures, ready to be put into the template."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llmperf.report.html.drawing import Rows, height_of, packed


@dataclass(frozen=True)
class Chip:
    """A verdict, by a symbol and a word; its colour only repeats them."""

    word: str
    symbol: str
    tone: str
    """``good``, ``open``, ``bad`` or ``none``."""


@dataclass(frozen=True)
class Cell:
    """A text in a table; with ``href`` a link within the page."""

    text: str
    href: str = ""
    chip: Chip | None = None


@dataclass(frozen=True)
class Table:
    """Rows of cells; the last ``numbers`` columns are numbers."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: int = 0


@dataclass(frozen=True)
class Figure:
    """A chart, and the same in words."""

    title: str
    told: str
    """What it shows, with its numbers."""
    kind: str
    """Which of :data:`pytest_llmperf.report.html.figures.KINDS`."""
    data: dict[str, Rows]
    table: Table | None = None

    @property
    def height(self) -> int:
        """In pixels, axes left out."""
        return height_of(self.kind, self.data)

    @property
    def packed(self) -> dict[str, dict[str, list[object]]]:
        """The data as they stand in the page."""
        return packed(self.data)


@dataclass(frozen=True)
class Fact:
    """One line of a list: a name and its text."""

    name: str
    text: str


@dataclass(frozen=True)
class Measured:
    """One measurement of a test."""

    title: str
    chip: Chip
    who: str
    """Engine, model, workload."""
    reasons: tuple[str, ...]
    metrics: Table
    figures: tuple[Figure, ...]
    limited_by: str
    conditions: tuple[Fact, ...]
    options: tuple[Fact, ...]
    findings: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """Two arms of a test."""

    title: str
    chip: Chip | None
    told: str
    checks: tuple[str, ...]
    figure: Figure | None


@dataclass(frozen=True)
class Headline:
    """One number in a test's line: as text, and to sort by."""

    label: str
    text: str
    value: float | None


@dataclass(frozen=True)
class Test:
    """One test on one machine."""

    anchor: str
    """Its id within the page; the same in every page of the same test and machine."""
    nodeid: str
    path: str
    name: str
    who: str
    machine: int
    """Which of :attr:`Page.machines`."""
    chip: Chip
    rank: int
    """The worse, the higher."""
    numbers: tuple[Headline, ...]
    reason: str
    facts: tuple[Fact, ...]
    measured: tuple[Measured, ...]
    compared: tuple[Compared, ...]
    opens_in_print: bool


@dataclass(frozen=True)
class Skipped:
    """One reason, and the tests that were skipped for it."""

    reason: str
    tests: tuple[Cell, ...]


@dataclass(frozen=True)
class Count:
    """How many tests are of one kind."""

    chip: Chip
    count: int


@dataclass(frozen=True)
class Machine:
    """One fingerprint."""

    label: str
    facts: tuple[Fact, ...]
    findings: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Several measurements side by side: of machines, engines, variants, or a sweep."""

    title: str
    told: tuple[str, ...]
    figures: tuple[Figure, ...]
    table: Table


@dataclass(frozen=True)
class Chapter:
    """Groups of one kind."""

    anchor: str
    title: str
    intro: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Overview:
    """The verdict first."""

    chip: Chip
    headline: str
    counts: tuple[Count, ...]
    red: Table | None
    changed: Table | None
    change_figure: Figure | None
    suite: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """The whole."""

    title: str
    subtitle: str
    overview: Overview
    machines: tuple[Machine, ...]
    tests: tuple[Test, ...]
    chapters: tuple[Chapter, ...]
