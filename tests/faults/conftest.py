"""Workers and pytest runs that a test may do anything to: nothing of them outlives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_llmperf.worker.pool import WorkerPool
from tests.faults.processes import MARK, Family, PytestRun

RunPytest = Callable[..., PytestRun]


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    """Every process that this test starts."""
    family = Family()
    monkeypatch.setenv(MARK, family.mark)
    yield family
    family.kill()


@pytest.fixture
def pool(family: Family, tmp_path: Path) -> Iterator[WorkerPool]:
    """Workers whose logs and boards lie in ``tmp_path``."""
    pool = WorkerPool(tmp_path)
    yield pool
    pool.close()


@pytest.fixture
def run_pytest(tmp_path: Path) -> Iterator[RunPytest]:
    """Start ``pytest --llmperf`` on the source of a test file."""
    runs: list[PytestRun] = []

    def start(tests: str, *arguments: str, **environment: str) -> PytestRun:
        folder = tmp_path / f"run-{len(runs)}"
        folder.mkdir()
        runs.append(PytestRun(folder, tests, *arguments, **environment))
        return runs[-1]

    yield start
    for run in runs:
        run.end()
