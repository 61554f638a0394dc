"""How do two programs compare on a machine that is never quiet, and how is that told?

Whatever drifts (clock rates, neighbours) hits both arms alike when they take turns A B B A; the
ratio of each pair is formed first, and the median of the ratios is the result.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import math
import platform
import statistics
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.report import words

WIDTH = 80

T = TypeVar("T")


class Target(msgspec.Struct, frozen=True):
    """Where a figure has to lie, ends included."""

    least: float = -math.inf
    most: float = math.inf

    def is_met(self, value: float) -> bool:
        """Whether ``value`` lies inside."""
        return self.least <= value <= self.most

    def __str__(self) -> str:
        if math.isinf(self.most):
            return "–" if math.isinf(self.least) else f"≥ {self.least:g}"
        return f"≤ {self.most:g}" if math.isinf(self.least) else f"{self.least:g}–{self.most:g}"


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Median and quartiles of some values."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        low = high = values[0]
        if len(values) > 1:
            low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median=statistics.median(values), low=low, high=high, n=len(values))

    def text(self, form: str) -> str:
        """``1.00 (0.97–1.01)`` for the format ``.2f``."""
        return f"{self.median:{form}} ({self.low:{form}}–{self.high:{form}})"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two arms over the same pairs. Values where more is better give a ratio to be above 1."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> Spread:
        """Ours ÷ theirs, pair by pair."""
        return Spread.of([x / y for x, y in zip(self.ours, self.theirs, strict=True)])

    @property
    def medians(self) -> tuple[float, float]:
        """Of each arm by itself."""
        return statistics.median(self.ours), statistics.median(self.theirs)


def take_turns(rounds: int, arms: Sequence[Callable[[int], T]]) -> list[list[T]]:
    """Run every arm once in each round, every other round backwards: A B C, C B A, A B C …

    An arm is called with the number of the round. Returns the values of each arm by round.
    """
    values: list[list[T]] = [[] for _ in arms]
    for turn in range(rounds):
        order = range(len(arms))
        for arm in reversed(order) if turn % 2 else order:
            values[arm].append(arms[arm](turn))
    return values


def compare(pairs: int, ours: Callable[[int], float], theirs: Callable[[int], float]) -> Comparison:
    """Take ``pairs`` pairs in the order A B B A."""
    mine, others = take_turns(pairs, (ours, theirs))
    return Comparison(ours=mine, theirs=others)


class Benchmark:
    """One run of a benchmark: its options, its table, its JSON, and the targets it missed."""

    def __init__(self, about: str, options: argparse.Namespace) -> None:
        self.quick: bool = options.quick
        self._json: Path | None = options.json
        self._rows: list[dict[str, object]] = []
        self._missed: list[str] = []
        self._header: dict[str, object] = {
            "benchmark": about.splitlines()[0],
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine(),
            "quick": self.quick,
        }
        print(self._header["benchmark"])
        self._say(f"{self._header['date']}, {self._header['machine']}")

    def _say(self, text: str) -> None:
        print(textwrap.fill(text, WIDTH, subsequent_indent="  "), flush=True)

    def note(self, name: str, text: str) -> None:
        """Print a fact that holds for the whole run, and keep it."""
        self._header[name] = text
        self._say(text)

    def head(self, *columns: str) -> None:
        """Print the heads of a table; a width follows each name: ``ratio:8``, first column left."""
        self._widths = [int(column.rpartition(":")[2]) for column in columns]
        if sum(self._widths) > WIDTH:
            raise ValueError(f"a table {sum(self._widths)} columns wide; {WIDTH} fit")
        print()
        self._line([column.rpartition(":")[0] for column in columns])

    def row(self, *cells: str, **facts: object) -> None:
        """Print one line of the table and keep what it was made of."""
        self._line(cells)
        self._rows.append(facts)

    def _line(self, cells: Sequence[str]) -> None:
        first, *others = zip(cells, self._widths, strict=True)
        text = "".join(f"{cell:>{width}}" for cell, width in others)
        print(f"{first[0]:<{first[1]}}{text}", flush=True)

    def check(self, what: str, value: float, target: Target) -> bool:
        """Note a missed target; whether it was met."""
        met = target.is_met(value)
        if not met:
            self._missed.append(f"{what}: {value:.4g}, target {target}")
        return met

    def finish(self) -> int:
        """Write the JSON, say which targets were missed; the exit code."""
        for reason in self._missed:
            self._say(f"missed: {reason}")
        if self._json is not None:
            document = {**self._header, "rows": self._rows, "missed": self._missed}
            text = msgspec.json.format(msgspec.json.encode(document), indent=2)
            self._json.write_bytes(text + b"\n")
        return 1 if self._missed else 0


def option_parser(about: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the short form, about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    return parser


@functools.cache
def machine() -> str:
    """The machine in words: ``2 cores AMD EPYC (avx512_vnni), 23.5 GiB, …, Linux 6.18``."""
    here = detect()
    kernel = ".".join(here.kernel.split(".")[:2])
    return (
        f"{words.machine(here)}, {here.system}, "
        f"{platform.system()} {kernel}, Python {platform.python_version()}"
    )
