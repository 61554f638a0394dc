"""Does mapping the model file spare private memory and time here, and what does a slow disk show?

Mapped weights are pages of the file: they belong to the page cache, and every process that maps
the same file has the same ones. Weights of type F16, because llama.cpp copies some quantized types
into another order, mapped or not.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fixtures import Compare, LoadModel, Measure

from .conftest import SMALL, Model, private_bytes

CPU: dict[str, Any] = {"backend": "llama-cpp", "n_gpu_layers": 0}
SHORT: dict[str, Any] = {"prompt_tokens": 4, "new_tokens": 2}
READ_PAST_THE_CACHE = """
import os, random, sys, threading
file = os.open(sys.argv[1], os.O_RDONLY)
pages = os.fstat(file).st_size // 4096
os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
def read():
    while True:
        page = random.randrange(pages) * 4096
        os.posix_fadvise(file, page, 4096, os.POSIX_FADV_DONTNEED)
        os.pread(file, 4096, page)
for _ in range(16):
    threading.Thread(target=read).start()
print("reads", flush=True)
"""


@pytest.fixture
def in_ram(small_gguf: Model, own: str | None) -> dict[str, Any]:
    """What is loaded, whole into main memory."""
    model = small_gguf if own else {**small_gguf, "quantization": "F16"}
    return {**model, **CPU}


@pytest.fixture
def file_on_disk(load_model: LoadModel, in_ram: dict[str, Any], tmp_path: Path) -> Path:
    """A copy of the model of which nothing is in the page cache."""
    files = load_model(**in_ram).files
    assert files is not None
    path = Path(shutil.copy(files.path, tmp_path))
    leave_the_page_cache(path)
    return path


@pytest.fixture
def busy_disk(file_on_disk: Path) -> Iterator[None]:
    """Another process reads from the disk all the time."""
    command = [sys.executable, "-c", READ_PAST_THE_CACHE, str(file_on_disk)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        yield
        reader.kill()


@pytest.mark.quick
@pytest.mark.claim("private memory is much lower with mmap")
@perf(samples=5)
def test_mapped_weights_are_not_private(
    load_model: LoadModel,
    measure: Measure,
    in_ram: dict[str, Any],
    record_property: Callable[[str, object], None],
) -> None:
    mapped = measure(load_model(**in_ram), **SHORT, name="mapped")
    copied = measure(load_model(**in_ram, use_mmap=False), **SHORT, name="copied")
    files, memory = load_model(**in_ram).files, mapped.memory
    assert files is not None
    own_bytes = [private_bytes(each) for each in (mapped, copied)]
    told = " against ".join(f"{each / 2**20:.0f}" for each in own_bytes)
    record_property("private MiB, mapped and copied", told)
    assert memory is not None
    assert memory.file is not None
    assert memory.file.bytes > files.weight_bytes  # it was mapped, and all of it was read
    assert own_bytes[1] > files.weight_bytes  # and this one was not
    assert own_bytes[0] < 0.4 * own_bytes[1]


@pytest.mark.claim("a warm load is faster mapped")
@perf(samples=5)
def test_a_warm_load_is_faster_mapped(compare: Compare, in_ram: dict[str, Any]) -> None:
    found = compare({}, {"use_mmap": False}, **in_ram, **SHORT, metric="load", min_speedup=1.2)
    loads = {each.load_facts.temperature for each in (*found.a, *found.b)}
    if loads != {"warm"}:
        pytest.skip(f"the page cache did not keep the file: {', '.join(sorted(loads))}")


@pytest.mark.quick
@pytest.mark.claim("two processes share the pages of one file")
def test_two_processes_share_the_pages(
    load_model: LoadModel,
    in_ram: dict[str, Any],
    record_property: Callable[[str, object], None],
) -> None:
    one, other = load_model(**in_ram), load_model(**in_ram, n_ctx=512)
    assert one.worker.pid != other.worker.pid
    shares = [resident_bytes(model.worker.pid) for model in (one, other)]
    assert one.files is not None
    saved_bytes = sum(share["Rss"] for share in shares) - sum(share["Pss"] for share in shares)
    record_property("shared, × the weights", f"{saved_bytes / one.files.weight_bytes:.2f}")
    assert saved_bytes > 0.9 * one.files.weight_bytes


@pytest.mark.claim("a cold load is told from a warm one")
def test_a_cold_load_is_told_from_a_warm_one(
    load_model: LoadModel, file_on_disk: Path, record_property: Callable[[str, object], None]
) -> None:
    """No page fault waits in it: llama.cpp has the kernel fetch the file while mapping it."""
    cold = load_model(file_on_disk, **CPU).load
    if cold.temperature != "cold":
        pytest.skip(f"the page cache kept the file: {cold.how}")
    warm = load_model(file_on_disk, **CPU, n_ctx=512).load
    assert cold.disk_share is not None
    assert warm.disk_share is not None
    record_property("read from the disk", f"{cold.disk_share:.0%}, warm {warm.disk_share:.0%}")
    assert cold.disk_share > 0.9
    assert warm.disk_share < 0.1
    assert warm.temperature == "warm"


@pytest.mark.claim("pages that are fetched when they are touched are counted as major faults")
def test_pages_that_are_fetched_when_touched_are_faults(
    load_model: LoadModel, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Safetensors are mapped, too, and nothing of them is fetched before it is used."""
    files = load_model(SMALL, backend="transformers", device="cpu").files
    assert files is not None
    folder = Path(shutil.copytree(files.path, tmp_path / "model"))
    for weights in folder.glob("*.safetensors"):
        leave_the_page_cache(weights)
    cold = load_model(folder, backend="transformers", device="cpu").load
    if cold.temperature != "cold":
        pytest.skip(f"the page cache kept the file: {cold.how}")
    warm = load_model(folder, backend="transformers", device="cpu", num_threads=1).load
    assert warm.temperature != "cold"
    assert cold.major_faults is not None
    assert warm.major_faults is not None
    record_property("major faults, cold and warm", f"{cold.major_faults}, {warm.major_faults}")
    assert cold.major_faults > warm.major_faults


@pytest.mark.claim("waiting for the disk for a large share of the time is told")
@pytest.mark.usefixtures("busy_disk")
def test_waiting_for_the_disk_is_told(
    load_model: LoadModel,
    measure: Measure,
    in_ram: dict[str, Any],
    record_property: Callable[[str, object], None],
) -> None:
    # A reader that waits for a core does not wait for the disk: one is left to it.
    seen = measure(load_model(**in_ram, n_threads=1), **SHORT)
    assert seen.conditions is not None
    pressure = seen.conditions.pressure
    waited = pressure.get("group.io.some", pressure.get("io.some"))
    if waited is None:
        pytest.skip("this kernel tells no pressure on storage (PSI)")
    record_property("of the time", f"{waited:.0%}")
    if waited < 0.3:
        pytest.skip(f"the disk is too fast to be waited for: {waited:.0%} of the time")
    assert any("waited for storage" in finding for finding in seen.findings), seen.findings


@pytest.mark.quick
@pytest.mark.claim("locked weights stay in memory")
def test_locked_weights_stay(load_model: LoadModel, in_ram: dict[str, Any]) -> None:
    """The load itself is refused unless the weights were locked."""
    resource = pytest.importorskip("resource", reason="this system has no limits of that kind")
    files = load_model(**in_ram).files
    assert files is not None
    most, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        locked = load_model(**in_ram, use_mlock=True)
    except pytest.fail.Exception:
        if most == resource.RLIM_INFINITY or most >= files.weight_bytes:
            raise
        pytest.skip(
            f"a process may lock {most / 2**20:.0f} MiB here (ulimit -l), the weights are "
            f"{files.weight_bytes / 2**20:.0f} MiB"
        )
    assert locked.options["use_mlock"]


def leave_the_page_cache(path: Path) -> None:
    """Have the disk alone hold a file that was just written."""
    if not hasattr(os, "posix_fadvise"):
        pytest.skip("this system has no posix_fadvise, which takes a file out of the page cache")
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident_bytes(pid: int) -> dict[str, int]:
    """Resident memory of a process, and its proportional share of it."""
    path = Path(f"/proc/{pid}/smaps_rollup")
    if not path.exists():
        pytest.skip(f"this system has no {path}, which tells shares of pages")
    fields = [line.partition(":") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return {name: int(rest.split()[0]) * 1024 for name, _, rest in fields}
