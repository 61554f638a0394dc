"""Do the tables of the pages hold what the code has, all of it and nothing else?"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from pytest_llmperf.backends import backend_names
from pytest_llmperf.fixtures import Compare, LoadModel, Measure
from pytest_llmperf.gate.metric import METRICS
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.markers import Requires
from tests.docs.blocks import ROOT, parsed

DOCS = ROOT / "docs"


def table(page: Path, first_heading: str) -> list[list[str]]:
    """Cells of the rows of the table whose first column is called so."""
    rows: list[list[str]] = []
    found = False
    for token in parsed(page.read_text(encoding="utf-8")):
        if token.type == "table_open":
            rows, found = [], False
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows:
            rows[-1].append(token.content)
        elif token.type == "table_close" and rows[0][0] == first_heading:
            found = True
            break
    assert found, f"{page.name} has no table of {first_heading}"
    return rows[1:]


def words(cells: list[str]) -> set[str]:
    """What stands in code in these cells."""
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def test_every_option_has_its_row(pytester: pytest.Pytester) -> None:
    shown = pytester.runpytest_subprocess("--help").stdout.str()
    real = set(re.findall(r"--llmperf[a-z-]*", shown))
    told = words([row[0] for row in table(DOCS / "tests.md", "option")])
    assert {re.split(r"[\[= ]", word)[0] for word in told} == real


def test_every_metric_has_its_row_with_its_unit_and_direction() -> None:
    told = {
        name: (row[1], row[2])
        for row in table(DOCS / "metrics.md", "metric")
        for name in words([row[0]])
    }
    told.pop("tps")  # the alias of decode_tps, in its row
    units = {"": {"–", "ratio", "tokens"}}
    assert set(told) == {metric.name for metric in METRICS}
    for metric in METRICS:
        unit, better = told[metric.name]
        assert unit in units.get(metric.unit, {metric.unit}), metric.name
        assert better == metric.better, metric.name


def test_every_backend_has_its_row() -> None:
    told = words([row[0] for row in table(DOCS / "backends.md", "name")])
    assert told == set(backend_names())


def test_every_verdict_has_its_meaning() -> None:
    told = " ".join(row[0] for row in table(DOCS / "tests.md", "verdict"))
    assert all(verdict.value in told for verdict in Verdict)


def test_every_requirement_is_told() -> None:
    page = (DOCS / "tests.md").read_text(encoding="utf-8")
    told = page.partition("requires(...)`")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(\w+)=", told)) == set(Requires.__annotations__)


@pytest.mark.parametrize(
    ("name", "protocol"), [("load_model", LoadModel), ("measure", Measure), ("compare", Compare)]
)
def test_the_fixtures_are_called_as_it_is_told(name: str, protocol: type) -> None:
    """Every keyword of a call with its default; what is cut short says so by ``…``."""
    (shown,) = (row[0] for row in table(DOCS / "tests.md", "fixture") if f"`{name}(" in row[0])
    told = dict(re.findall(r"(\w+)=([\w\"]+)", shown))
    parameters = inspect.signature(protocol.__call__).parameters.values()
    real = {each.name: default_of(each) for each in parameters if each.default is not each.empty}
    assert told
    assert told.items() <= real.items()
    if "…" not in shown:
        assert told == real


def default_of(parameter: inspect.Parameter) -> str:
    """As it is written."""
    value = parameter.default
    return f'"{value}"' if isinstance(value, str) else str(value)
