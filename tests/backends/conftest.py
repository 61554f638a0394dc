"""Loaded models that the tests of one file share, so that each is loaded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pytest_llmperf.worker.pool import LoadedModel, WorkerPool
from tests.faults.processes import PytestRun, loading

Load = Callable[..., LoadedModel]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    pool = WorkerPool(tmp_path_factory.mktemp("workers"))
    yield pool
    pool.close()
    assert pool.bad_exits == []


@pytest.fixture
def load(pool: WorkerPool) -> Load:
    """Take arguments as ``load_model`` does; equal ones share a worker."""

    def load_model(engine: str, **arguments: object) -> LoadedModel:
        return pool.load(loading(engine, **arguments))  # type: ignore[arg-type] # a mixed bag

    return load_model


@pytest.fixture
def run_pytest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], PytestRun]]:
    """Start ``pytest --llmperf`` on the source of a test file."""
    runs: list[PytestRun] = []

    def start(tests: str) -> PytestRun:
        runs.append(PytestRun(tmp_path_factory.mktemp("run"), tests))
        return runs[-1]

    yield start
    for run in runs:
        run.end()
