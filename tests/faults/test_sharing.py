"""Who shares a worker, and who has to leave before whom?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pytest_llmperf.child import Undead
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.facts import Accelerator
from pytest_llmperf.hardware.gpu_lease import GpuLeases
from pytest_llmperf.hardware.lock import Lock
from pytest_llmperf.hardware.visible import visible
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


CARDS = tuple(
    Accelerator(kind="cuda", vendor="nvidia", name="RTX", integrated=False, uuid=f"GPU-{each}")
    for each in "ab"
)


@pytest.fixture
def gpu_pool(family: Family, tmp_path: Path) -> Iterator[WorkerPool]:
    """Workers on a machine with two GPUs."""
    pool = WorkerPool(tmp_path, gpus=GpuLeases(visible(CARDS, {}), tmp_path))
    yield pool
    pool.close()


def free(folder: Path) -> list[str]:
    """The GPUs that another process could have now."""
    found = []
    for path in sorted(folder.glob("gpu-*.lock")):
        lock = Lock(path)
        if lock.take():
            found.append(path.stem.split("-")[2])
        lock.leave()
    return found


def listed(pid: int) -> str | None:
    return psutil.Process(pid).environ().get("CUDA_VISIBLE_DEVICES")


def test_a_gpu_is_held_from_load_to_exit(gpu_pool: WorkerPool, tmp_path: Path) -> None:
    model = gpu_pool.load(loading("fake", gpu_count=1))
    assert listed(model.worker.pid) == "GPU-a"
    gpu_pool.end_test()
    assert free(tmp_path) == []
    gpu_pool.end_test(keep=False)
    assert free(tmp_path) == ["a"]


def test_a_worker_on_the_cpu_is_kept_for_a_later_test(pool: WorkerPool) -> None:
    """Nobody waits for it, whatever runs between."""
    model = pool.load(loading("fake"))
    pool.end_test(keep=False)
    assert pool.load(loading("fake")) is model


def test_a_test_holds_no_gpus_of_the_test_before(gpu_pool: WorkerPool, tmp_path: Path) -> None:
    wide, narrow = loading("fake", gpu_count=None), loading("fake", gpu_count=1)
    with gpu_pool.turn_to_load(wide):
        gpu_pool.load(wide)
    gpu_pool.end_test()
    assert free(tmp_path) == []
    with gpu_pool.turn_to_load(narrow):
        gpu_pool.load(narrow)
    assert free(tmp_path) == ["b"]


def test_what_an_engine_that_will_not_die_inherited_stays_taken(
    gpu_pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu = gpu_pool.load(loading("fake", gpu_count=1))
    gpu_pool.load(loading("fake"))
    close = on_gpu.worker.close

    def refuse() -> int:
        raise Undead("still there")

    monkeypatch.setattr(on_gpu.worker, "close", refuse)
    gpu_pool.give_up(on_gpu.loading)
    gpu_pool.end_test()
    assert free(tmp_path) == []
    close()
    assert free(tmp_path) == ["a"]


def test_fresh_workers_of_a_test_stay_on_one_gpu(gpu_pool: WorkerPool, tmp_path: Path) -> None:
    """Between two of them nobody else gets it: arms would be compared on different cards."""
    for number in range(2):
        model = gpu_pool.fresh(loading("fake", gpu_count=1, n_ctx=512 + number), number)
        assert listed(model.worker.pid) == "GPU-a"
        gpu_pool.end_workers()
        assert free(tmp_path) == []
    gpu_pool.end_test()
    assert free(tmp_path) == ["a"]


def test_two_models_of_one_test_share_its_gpu(gpu_pool: WorkerPool) -> None:
    models = [gpu_pool.load(loading("fake", gpu_count=1, n_ctx=each)) for each in (512, 513)]
    assert [listed(model.worker.pid) for model in models] == ["GPU-a", "GPU-a"]


def test_an_engine_that_computes_on_the_cpu_all_the_same_gives_its_gpu_back(
    gpu_pool: WorkerPool, tmp_path: Path
) -> None:
    """Its worker, which lives on, has inherited the lock."""
    model = gpu_pool.load(loading("fake", gpu_count=1, finds_gpus=False))
    assert model.worker.alive
    assert model.seat is None
    assert free(tmp_path) == ["a"]


def test_a_load_that_fails_gives_its_gpu_back(gpu_pool: WorkerPool, tmp_path: Path) -> None:
    endless = loading("fake", gpu_count=1, disaster="hang", at="load", timeout_s=1.5)
    with pytest.raises(WorkerHung):
        gpu_pool.load(endless)
    assert free(tmp_path) == ["a"]
