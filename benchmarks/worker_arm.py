"""How fast is one request through this package's own worker, in a fresh process?

The way is that of a test: the pool starts a worker, which loads the model and answers requests.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_llmperf.measure import Workload
from pytest_llmperf.measure.requests import Requests
from pytest_llmperf.measure.timeline import Sample, read_sample
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.worker.loading import Loading, choose, prepare
from pytest_llmperf.worker.pool import LoadedModel, WorkerPool

TIMEOUT_S = 600.0


def loading(spec: ModelSpec, backend: str, options: Mapping[str, object]) -> Loading:
    """What is to be loaded, its files found or built."""
    return prepare(spec, *choose(backend, options), timeout_s=TIMEOUT_S)


def in_fresh_worker(
    folder: Path,
    what: Loading,
    workload: Workload,
    repeats: int,
    figure: Callable[[Sample], float | None],
) -> Callable[[int], float]:
    """An arm: start a worker, send one request untimed and ``repeats`` timed, end the worker.

    Its value is the median of ``figure`` over the timed requests. ``folder`` takes the logs.
    """

    def arm(turn: int) -> float:
        pool = WorkerPool(folder)
        try:
            return statistics.median(send(pool.fresh(what, turn), workload, repeats, figure))
        finally:
            pool.close()

    return arm


def send(
    model: LoadedModel,
    workload: Workload,
    repeats: int,
    figure: Callable[[Sample], float | None],
) -> list[float]:
    """Send one request untimed, then ``repeats`` timed; ``figure`` of each."""
    requests = Requests(model, workload, TIMEOUT_S)
    requests.send("warm-up")
    values = []
    for i in range(repeats):
        answer = requests.send(f"request {i + 1}", "usage")
        sample = read_sample(answer, workload.prompt_tokens, workload.new_tokens)
        value = figure(sample)
        assert value is not None, "asked for at least two tokens"
        values.append(value)
    return values
