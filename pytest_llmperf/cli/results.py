"""What do the commands take from a file of results?"""

from __future__ import annotations

import datetime
from pathlib import Path

from pytest_llmperf.cli.answer import Wrong
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report.result import NoResult, RunResult, read_json


def read_result(path: Path) -> RunResult:
    """The result in a file. Raises Wrong."""
    try:
        return read_json(path)
    except OSError as error:
        raise Wrong(f"{path}: cannot be read: {error.strerror}") from error
    except NoResult as error:
        raise Wrong(str(error)) from error


def valid_pairs(result: RunResult) -> list[PairResult]:
    """Every pair of a measurement that means something."""
    return [
        pair
        for test in result.tests
        for judged in test.measurements
        if judged.verdict is not Verdict.INVALID
        for pair in judged.pairs
        if pair.looks
    ]


def date_of(result: RunResult) -> datetime.datetime:
    """When it was measured. Raises Wrong."""
    try:
        date = datetime.datetime.fromisoformat(result.created)
    except ValueError as error:
        raise Wrong(f"the result's date cannot be read: {error}") from error
    return date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)
