"""How does the page name a metric and its values? As the terminal does, with the unit."""

from __future__ import annotations

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.measure import Measurement, Quantity
from pytest_llmperf.report import words
from pytest_llmperf.report.html.model import Cell, Table
from pytest_llmperf.report.result import JudgedTest


def value_of(metric: str, value: float) -> str:
    """``19.1 tok/s``."""
    return f"{words.number(value)} {BY_NAME[metric].unit}".rstrip()


def quantity_of(seen: Quantity) -> str:
    """The same of what was measured, in its own unit."""
    return f"{words.number(seen.median)} {seen.unit}".rstrip()


def title_of(metric: str) -> str:
    """``decode, tok/s``."""
    known = BY_NAME[metric]
    return f"{known.label}, {known.unit}" if known.unit else known.label


def who_of(seen: Measurement) -> str:
    """``llama-cpp 0.3.36 · llama-160m Q4_K_M · 512+128 tokens``."""
    return f"{seen.backend} {seen.version} · {words.model(seen)} · {words.workload(seen)}"


def name_of(test: JudgedTest) -> tuple[str, str]:
    """Path and name of a node id."""
    path, bracket, case = test.test.partition("[")
    module, _, name = path.rpartition("::")
    return module, f"{name}{bracket}{case}"


def change_of(pair: PairResult) -> str:
    """``−13 %``; a dash without a baseline."""
    return "–" if pair.change is None else words.change(pair.change)


def table(heads: tuple[str, ...], rows: list[tuple[str | Cell, ...]], numbers: int = 0) -> Table:
    """Texts become cells."""
    cells = tuple(
        tuple(each if isinstance(each, Cell) else Cell(each) for each in row) for row in rows
    )
    return Table(heads, cells, numbers)
