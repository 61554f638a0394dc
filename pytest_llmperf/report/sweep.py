"""What does a test that was parametrized by a number say as a series, and where is its knee?

A series is one test function with three or more values of one number, all else that it was
parametrized with being equal. It is made from the results alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.measure import Measurement
from pytest_llmperf.report import words
from pytest_llmperf.report.grid import grid
from pytest_llmperf.report.knee import LEAST_POINTS, Point, knee_text, noise_of
from pytest_llmperf.report.result import JudgedTest, Parameter

SHOWN = ("decode_tps", "prefill_tps", "queue_tps", "step_tokens", "ttft", "ram", "vram")
WITH_KNEE = ("decode_tps", "prefill_tps", "queue_tps")

_Others = tuple[tuple[str, Parameter], ...]


@dataclass(frozen=True)
class Series:
    """One measurement of one test, by one number."""

    test: str
    """Without what stands in brackets."""
    measurement: str
    """Its name; empty where the test has only one."""
    parameter: str
    others: _Others
    """What else the test was parametrized with."""
    seen: dict[float, Measurement]
    """By the parameter's value, ascending."""


def find_series(tests: Sequence[JudgedTest]) -> list[Series]:
    """In the order in which they began."""
    found: dict[tuple[str, str, str, _Others], dict[float, Measurement]] = defaultdict(dict)
    for test in tests:
        for parameter, value in test.parameters.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            others = tuple(each for each in test.parameters.items() if each[0] != parameter)
            for name, measurement in _valid(test):
                key = test.test.partition("[")[0], name, parameter, others
                found[key].setdefault(value, measurement)
    return [
        Series(*key, dict(sorted(seen.items())))
        for key, seen in found.items()
        if len(seen) >= LEAST_POINTS
    ]


def _valid(test: JudgedTest) -> Iterator[tuple[str, Measurement]]:
    only = len(test.measurements) == 1
    for judged in test.measurements:
        if judged.verdict is not Verdict.INVALID:
            yield "" if only else judged.measurement.name, judged.measurement


def sweep_lines(tests: Sequence[JudgedTest]) -> list[str]:
    """Every series with its knees; nothing where there is none."""
    return [line for series in find_series(tests) for line in _lines(series)]


def _lines(series: Series) -> list[str]:
    title = [
        series.test.rpartition("::")[2] + f" · {series.measurement}" * bool(series.measurement)
    ]
    title += [f"{name} {value}" for name, value in series.others]
    head = f"{', '.join(title)}: by {series.parameter}"
    shown = [name for name in SHOWN if any(name in each.metrics for each in series.seen.values())]
    labels = [series.parameter, *(BY_NAME[name].label for name in shown)]
    rows = [labels, ["", *(BY_NAME[name].unit for name in shown)]]
    rows += [
        [words.limit(at), *(_cell(seen, name) for name in shown)]
        for at, seen in series.seen.items()
    ]
    knees = [
        part
        for name in WITH_KNEE
        if name in shown
        for part in words.folded(f"  {BY_NAME[name].label}: {knee_of(series, name)}", 4)
    ]
    return [*words.folded(head, 2), *grid(rows), *knees]


def _cell(seen: Measurement, name: str) -> str:
    return words.number(seen.metrics[name].median) if name in seen.metrics else "–"


def knee_of(series: Series, metric: str) -> str:
    """Where a speed stops to grow, in words."""
    found = {at: seen.metrics[metric] for at, seen in series.seen.items() if metric in seen.metrics}
    if min(found) < 0:
        return f"no knee is told, {words.limit(min(found))} is no amount"
    points = [
        Point(at, each.median, noise_of(each)) for at, each in found.items() if each.median > 0
    ]
    if len(points) < LEAST_POINTS:
        return f"no knee is told by {len(points)} of {len(series.seen)} points"
    return knee_text(points)
