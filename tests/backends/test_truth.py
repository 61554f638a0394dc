"""Are load, files and roofline of a real engine told as they are?"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.measure import Instruments, Plan, Workload, measure
from pytest_llmperf.models import ModelSpec, resolve
from pytest_llmperf.worker.loading import Loading, choose, prepare
from pytest_llmperf.worker.pool import WorkerPool
from tests.faults.processes import PytestRun

pytestmark = pytest.mark.engine

WORKLOAD = Workload(prompt_tokens=16, new_tokens=16)
PLAN = Plan(samples=5, time_budget_s=30, timeout_s=60)


@pytest.fixture
def model_file() -> Iterator[Path]:
    """A model of its own, on a disk, which /tmp need not be."""
    files = resolve(ModelSpec("synthetic:llama-15m", "Q8_0"), "gguf")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder) / "model.gguf"
        shutil.copyfile(files.path, path)
        with path.open("r+b") as file:
            os.fsync(file.fileno())
        yield path


@pytest.fixture
def own_pool(tmp_path: Path) -> Iterator[WorkerPool]:
    pool = WorkerPool(tmp_path)
    yield pool
    pool.close()
    assert pool.bad_exits == []


def loading(path: Path) -> Loading:
    backend, options = choose("llama-cpp", {"n_threads": 1})
    return prepare(ModelSpec(str(path)), backend, options, timeout_s=60)


def drop_from_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_a_cold_load_is_told_from_a_warm_one(model_file: Path, own_pool: WorkerPool) -> None:
    prepared = loading(model_file)
    model_file.read_bytes()
    warm = own_pool.fresh(prepared, 0).load
    own_pool.close()  # pages that a process has mapped cannot be dropped
    drop_from_cache(model_file)
    cold = own_pool.fresh(prepared, 1).load
    assert (warm.temperature, cold.temperature) == ("warm", "cold")


def test_a_file_replaced_while_it_is_measured_is_named_and_tells_nothing_more(
    model_file: Path, own_pool: WorkerPool
) -> None:
    model = own_pool.load(loading(model_file))

    def replace(what: str) -> None:
        if what == "sample 3 of 5":
            beside = model_file.with_suffix(".new")
            shutil.copyfile(model_file, beside)
            beside.rename(model_file)

    instruments = Instruments(detect())
    seen = measure(model, WORKLOAD, PLAN, instruments, progress=replace)
    said = "model.gguf was replaced"
    assert f"model file changed while it was measured: {said}" in seen.findings
    assert said in seen.absent["mbu"]
    assert said in seen.absent["mfu"]
    assert seen.invalid is None
    assert own_pool.load(loading(model_file)) is not model


def test_weights_in_the_cache_have_no_share_of_the_memory_bandwidth(
    model_file: Path, own_pool: WorkerPool
) -> None:
    """On a machine that says that its cache is 64 MiB; the model is a quarter of that."""
    prepared = loading(model_file)
    hardware = detect()
    cpu = msgspec.structs.replace(hardware.cpu, l2_cache_bytes=0, l3_cache_bytes=64 << 20)
    instruments = Instruments(msgspec.structs.replace(hardware, cpu=cpu))
    instruments.calibrate("cpu")
    seen = measure(own_pool.load(prepared), WORKLOAD, PLAN, instruments)
    assert "the weights live in the cache" in seen.absent["mbu"]
    assert "mbu" not in seen.metrics
    assert seen.mfu.median > 0


ROOFLINE = """
import msgspec
import pytest

@pytest.mark.parametrize("least", [
    pytest.param(0.3, marks=pytest.mark.perf(min_mbu=0.3)),
    pytest.param(0.99, marks=pytest.mark.perf(min_mbu=0.99)),
])
def test_bandwidth(load_model, measure, least):
    model = load_model("synthetic:tinyllama-1.1b", backend="llama-cpp", quantization="Q8_0")
    measure(model, prompt_tokens=16, new_tokens=24)
"""


def test_a_share_of_the_bandwidth_passes_and_fails_with_its_arithmetic(
    run_pytest: Callable[[str], PytestRun],
) -> None:
    resolve(ModelSpec("synthetic:tinyllama-1.1b", "Q8_0"), "gguf")
    run = run_pytest(ROOFLINE)
    assert run.finish(timeout_s=300) == 1, run.output
    assert "test_bandwidth[0.3] PASSED" in run.output, run.output
    assert "1 failed, 1 passed" in run.output, run.output
    lines = [line.strip() for line in run.output.splitlines()]
    (arithmetic,) = [line for line in lines if line.startswith("mbu ")]
    how = r"mbu +[\d.]+ GB a step × [\d.]+ steps/s = [\d.]+ GB/s, of [\d.]+ GB/s measured"
    assert re.fullmatch(how, arithmetic), arithmetic
    assert all(len(line) <= 80 for line in lines if "measured" in line)
    assert any("< min_mbu=0.99" in line for line in lines)
