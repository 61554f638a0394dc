"""What do the commands take from a file of results?"""

from __future__ import annotations

import datetime
from pathlib import Path

from pytest_llmperf.cli.answer import Wrong
from pytest_llmperf.report.result import NoResult, RunResult, read_json


def read_result(path: Path) -> RunResult:
    """The result in a file. Raises Wrong."""
    try:
        return read_json(path)
    except OSError as error:
        raise Wrong(f"{path}: cannot be read: {error.strerror}") from error
    except NoResult as error:
        raise Wrong(str(error)) from error


def date_of(result: RunResult) -> datetime.datetime:
    """When it was measured. Raises Wrong."""
    try:
        date = datetime.datetime.fromisoformat(result.created)
    except ValueError as error:
        raise Wrong(f"the result's date cannot be read: {error}") from error
    return date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)
