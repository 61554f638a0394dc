"""Who shares a worker, and who has to leave before whom?"""

from __future__ import annotations

import psutil
import pytest

from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.measure import Instruments, Plan, Workload, measure
from pytest_llmperf.worker.errors import EngineRefusal, WorkerHung
from pytest_llmperf.worker.pool import WorkerPool
from tests.faults.processes import Family, loading

QUICK = Plan(samples=5, time_budget_s=5.0, timeout_s=60.0)


def test_equal_specs_and_options_share_one_worker_across_tests(pool: WorkerPool) -> None:
    first = pool.load(loading("fake", decode_tps=50.0))
    assert pool.load(loading("fake", decode_tps=50.0)) is first
    pool.end_test()
    assert pool.load(loading("fake", decode_tps=50.0)) is first


def test_a_worker_that_has_read_a_text_is_not_the_next_tests(pool: WorkerPool) -> None:
    """What reading left in its memory would be measured as that test's own."""
    first = pool.load(loading("fake"))
    first.has_read = True
    pool.end_test()
    assert not psutil.pid_exists(first.worker.pid)
    assert pool.load(loading("fake")) is not first


@pytest.mark.parametrize(
    ("engine", "changed"),
    [
        ("fake", {"decode_tps": 60.0}),
        pytest.param("llama-cpp", {"n_ctx": 512}, marks=pytest.mark.engine),
        pytest.param("llama-cpp", {"quantization": "Q8_0"}, marks=pytest.mark.engine),
    ],
)
def test_another_models_worker_ends_before_the_next_one_starts(
    engine: str, changed: dict[str, object], pool: WorkerPool, family: Family
) -> None:
    old = pool.load(loading(engine)).worker.pid
    pool.end_test()
    new = pool.load(loading(engine, **changed))  # type: ignore[arg-type] # a mixed bag
    assert not psutil.pid_exists(old)
    assert [process.pid for process in family.alive()] == [new.worker.pid]


def test_the_old_worker_is_gone_while_the_new_one_loads(pool: WorkerPool, family: Family) -> None:
    old = pool.load(loading("fake")).worker.pid
    pool.end_test()
    there: list[bool] = []
    endless = loading("fake", disaster="hang", at="load", timeout_s=1.5)
    with pytest.raises(WorkerHung):
        pool.load(endless, lambda phase: there.append(psutil.pid_exists(old)))
    assert there == [False]


def test_two_models_of_one_test_live_side_by_side_until_it_ends(
    pool: WorkerPool, family: Family
) -> None:
    pool.load(loading("fake", decode_tps=50.0))
    last = pool.load(loading("fake", decode_tps=60.0))
    assert len(family.alive()) == 2
    pool.end_test()
    assert [process.pid for process in family.alive()] == [last.worker.pid]


def test_a_fresh_worker_is_another_process_and_the_only_one(
    pool: WorkerPool, family: Family
) -> None:
    old = pool.load(loading("fake"))
    fresh = pool.fresh(old.loading, 1)
    assert [process.pid for process in family.alive()] == [fresh.worker.pid]
    assert fresh.worker.pid != old.worker.pid
    assert fresh.invocation == 1


@pytest.mark.parametrize(
    ("engine", "options", "room"),
    [
        ("fake", {"n_ctx": 256}, 256),
        pytest.param("llama-cpp", {"n_ctx": 256}, 256, marks=pytest.mark.engine),
        pytest.param("transformers", {}, 256, marks=pytest.mark.engine),
    ],
)
def test_a_workload_larger_than_the_context_is_refused_and_the_worker_stays_usable(
    engine: str, options: dict[str, object], room: int, pool: WorkerPool
) -> None:
    instruments = Instruments(detect())
    model = pool.load(loading(engine, **options))  # type: ignore[arg-type] # a mixed bag
    with pytest.raises(EngineRefusal) as caught:
        measure(model, Workload(prompt_tokens=200, new_tokens=57), QUICK, instruments)
    assert (
        f"200 prompt + 57 new tokens need a context of 257, but {engine} was loaded with {room}"
        in str(caught.value)
    )
    fitting = measure(model, Workload(prompt_tokens=200, new_tokens=56), QUICK, instruments)
    assert fitting.invalid is None
    assert fitting.decode_tps.n == 5
