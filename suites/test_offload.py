"""What does a model take, and how slow is it, that is partly left to RAM or to the disk?

Confirmed: layers beyond ``max_memory`` are not held, say the same, and cost most of the speed,
because every step copies them anew. Refuted, for a model that RAM has room for: that this is the
disk's slowness. The files stay in the page cache, no step waits for storage, and the disk is idle:
``conditions.disk_read_bytes`` and ``pressure["io.some"]`` of a result tell how busy it was. What a
GPU gains over RAM is asserted where there is one, and was tried on none.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_llmperf import perf, requires
from pytest_llmperf.fixtures import Compare, LoadModel, Measure
from pytest_llmperf.measure import Measurement

from .conftest import SMALL, TRAINED, Model


@pytest.mark.quick
@pytest.mark.claim("a model over its memory limit loads, generates, and says the same")
@perf(samples=5, max_kl_divergence=1e-6)
def test_what_is_left_to_the_disk_says_the_same(
    load_model: LoadModel, measure: Measure, tmp_path: Path
) -> None:
    model = load_model(
        TRAINED,
        backend="transformers",
        device_map="auto",
        max_memory="cpu=4MiB",
        offload_folder=str(tmp_path),
    )
    assert model.engine.device == "cpu and disk"
    assert model.files is not None
    assert model.files.weight_bytes > 4 * 2**20
    measure(model, prompt_tokens=32, new_tokens=8, against={"device": "cpu"})


@pytest.mark.claim(
    "a limit of memory is kept; the disk makes it slow",
    instead="kept, and it costs most of the speed: by copying, no step waits for the disk",
)
@perf(samples=5)
def test_a_limit_is_kept_and_paid_for_with_speed(
    load_model: LoadModel,
    measure: Measure,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    in_ram = load_model(SMALL, backend="transformers", device="cpu")
    assert in_ram.files is not None
    weight_bytes, limit_bytes = in_ram.files.weight_bytes, 100 * 2**20
    on_disk = load_model(
        SMALL,
        backend="transformers",
        device_map="auto",
        max_memory="cpu=100MiB",
        offload_folder=str(tmp_path),
    )
    assert on_disk.engine.device == "cpu and disk"
    whole = measure(in_ram, prompt_tokens=16, new_tokens=4, name="in RAM")
    part = measure(on_disk, prompt_tokens=16, new_tokens=4, name="on disk")

    left_out = resident_bytes(whole) - resident_bytes(part)
    assert weight_bytes - left_out < limit_bytes
    # The peak has the layer at work on top, twice.
    fewer_bytes = (whole.ram.median - part.ram.median) * 2**30
    assert fewer_bytes > (weight_bytes - limit_bytes) / 2

    assert whole.decode_tps.median > 1.5 * part.decode_tps.median
    assert part.conditions is not None
    record_property("speed, × in RAM", f"{part.decode_tps.median / whole.decode_tps.median:.2f}")
    faults = part.conditions.major_faults.get("decode")
    if faults is None:
        pytest.skip("this system does not tell page faults, and so not whether the disk is read")
    read_mib = (part.conditions.disk_read_bytes or 0) / 2**20
    record_property("read from the disk, MiB", f"{read_mib:.0f}")
    assert faults < 100  # it is not the disk that is slow


@pytest.mark.claim("a model on a GPU is faster than in RAM")
@requires(gpu=True)
@perf(samples=5)
def test_a_gpu_is_faster_than_ram(compare: Compare, folder: Model) -> None:
    found = compare(
        {"device": "auto"},
        {"device": "cpu"},
        **folder,
        backend="transformers",
        prompt_tokens=64,
        new_tokens=16,
        min_speedup=1.5,
    )
    assert found.a[0].engine.device != "cpu"


@pytest.mark.claim("a model that is half offloaded takes half of the GPU")
@requires(gpu=True)
@perf(samples=5)
def test_half_a_model_takes_half_a_gpu(
    load_model: LoadModel, measure: Measure, folder: Model
) -> None:
    """The other half is in RAM, and copied to the GPU in every step."""
    on_gpu = load_model(**folder, backend="transformers")
    assert on_gpu.files is not None
    half_mib = on_gpu.files.weight_bytes // 2**21
    shared = load_model(
        **folder,
        backend="transformers",
        device_map="auto",
        max_memory=f"0={half_mib}MiB, cpu=64GiB",
    )
    assert shared.engine.device == "cpu and gpu"
    whole = measure(on_gpu, prompt_tokens=64, new_tokens=16, name="on the GPU")
    part = measure(shared, prompt_tokens=64, new_tokens=16, name="half in RAM")
    spared = (whole.vram.median - part.vram.median) * 2**30 / on_gpu.files.weight_bytes
    assert 0.3 < spared < 0.7
    assert whole.decode_tps.median > 1.5 * part.decode_tps.median


@pytest.mark.claim("every layer on a GPU helps: llama.cpp, and the knee")
@requires(gpu=True, vram_gb=20)
@perf(samples=5)
@pytest.mark.parametrize("n_gpu_layers", [0, 8, 16, 24, 32])
def test_so_many_layers_on_a_gpu(
    load_model: LoadModel, measure: Measure, gguf: Model, n_gpu_layers: int
) -> None:
    model = load_model(**gguf, backend="llama-cpp", n_gpu_layers=n_gpu_layers)
    measure(model, prompt_tokens=64, new_tokens=16)
    assert (model.engine.device == "cpu") is (n_gpu_layers == 0)


@pytest.mark.claim("half the layers on a GPU are faster than none, all faster than half")
@requires(gpu=True, vram_gb=20)
@perf(samples=5)
@pytest.mark.parametrize(("more", "fewer"), [(16, 0), (-1, 16)])
def test_more_layers_on_a_gpu_are_faster(
    compare: Compare, gguf: Model, more: int, fewer: int
) -> None:
    compare(
        {"n_gpu_layers": more},
        {"n_gpu_layers": fewer},
        **gguf,
        backend="llama-cpp",
        prompt_tokens=64,
        new_tokens=16,
        min_speedup=1.05,
    )


def resident_bytes(result: Measurement) -> int:
    """Private memory and mapped files, after the last request."""
    if result.memory is None or result.memory.anon is None or result.memory.file is None:
        pytest.skip("this system does not tell what of a process is resident")
    return result.memory.anon.bytes + result.memory.file.bytes
