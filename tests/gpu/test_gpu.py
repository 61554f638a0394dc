"""Does the main job hold on a real NVIDIA GPU?

    pytest --llmperf --llmperf-require=gpu -rs tests/gpu

Not part of `make test`: no machine of this project's CI has a GPU. llama.cpp takes part where the
installed build can offload (`CMAKE_ARGS="-DGGML_CUDA=ON"`).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_llmperf import perf, requires
from pytest_llmperf.fixtures import LoadModel, Measure
from pytest_llmperf.hardware import Hardware
from pytest_llmperf.measure import Instruments
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.worker.loading import choose, prepare
from pytest_llmperf.worker.pool import WorkerPool

MIB = 2**20


@requires(gpu=True)
def test_the_cards_are_those_of_nvidia_smi(hardware: Hardware) -> None:
    fields = "uuid,memory.total,compute_cap,driver_version"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    seen = {}
    for gpu in hardware.gpus:
        assert gpu.memory_bytes is not None
        seen[gpu.uuid] = (gpu.memory_bytes // MIB, gpu.compute_capability, gpu.driver)
    told = {}
    for line in lines:
        uuid, memory_mib, capability, driver = (part.strip() for part in line.split(","))
        told[uuid] = (int(memory_mib), capability, driver)
    assert seen == told


@requires(gpu=True)
@perf(min_tps=20)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_transformers_decodes_on_the_gpu(
    load_model: LoadModel, measure: Measure, dtype: str
) -> None:
    model = load_model("synthetic:tinyllama-1.1b", backend="transformers", dtype=dtype)
    assert str(model.options["device"]).startswith("cuda")
    result = measure(model, prompt_tokens=512, new_tokens=128)
    assert result.prefill_tps.median > result.decode_tps.median
    assert 0.01 < result.mbu.median <= 1.1, result.absent


@requires(gpu=True)
@perf(max_vram_gb=4)
def test_memory_of_the_card_is_that_of_nvidia_smi(
    hardware: Hardware, load_model: LoadModel, measure: Measure
) -> None:
    """2.05 GiB of weights, some cache, and a context that every process has."""
    model = load_model("synthetic:tinyllama-1.1b", backend="transformers", dtype="bfloat16")
    result = measure(model, prompt_tokens=512, new_tokens=64)
    (device,) = result.devices
    if device.integrated:
        pytest.skip(device.note)
    assert device.uuid in {gpu.uuid for gpu in hardware.gpus}
    assert device.vram is not None
    assert device.total_bytes is not None
    allocated, reserved, vram = (
        result.metrics[name].median for name in ("vram_allocated", "vram_reserved", "vram")
    )
    assert 2.0 < allocated < min(reserved, vram)
    assert vram * 2**30 < device.total_bytes
    if device.vram.kind != "exact":  # in a container the driver does not list us by our own number
        pytest.skip(f"not to be compared with nvidia-smi: {device.vram.how}")
    assert device.worker_bytes is not None
    assert device.worker_bytes // MIB in compute_processes_mib(device.uuid)


def compute_processes_mib(uuid: str | None) -> list[int]:
    """What nvidia-smi lists for each compute process on a card, in MiB."""
    fields = "--query-compute-apps=gpu_uuid,used_memory"
    command = ["nvidia-smi", fields, "--format=csv,noheader,nounits"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    pairs = [line.split(", ") for line in lines]
    return [int(used) for card, used in pairs if card == uuid and used.isdigit()]


@requires(gpu=True)
def test_a_worker_that_ended_has_given_its_memory_back(hardware: Hardware, tmp_path: Path) -> None:
    instruments = Instruments(hardware)
    pool = WorkerPool(tmp_path, instruments)
    backend, options = choose("transformers", {})
    spec = ModelSpec("synthetic:llama-160m")
    try:
        model = pool.load(prepare(spec, backend, options, timeout_s=300))
        assert instruments.gpu is not None
        held = instruments.gpu.read()
        pool.close()
        left = instruments.gpu.read()
    finally:
        pool.close()
        instruments.close()
    assert pool.bad_exits == []
    assert model.idle is not None
    assert held is not None
    assert left is not None
    used = [sum(gpu.used_bytes or 0 for gpu in each.gpus) for each in (model.idle, held, left)]
    assert used[1] - used[0] > 300 * MIB
    assert abs(used[2] - used[0]) < 64 * MIB


@requires(gpu=True)
def test_llama_cpp_is_faster_with_its_layers_on_the_gpu(
    load_model: LoadModel, measure: Measure
) -> None:
    speeds = []
    for layers in (0, -1):
        model = load_model("synthetic:tinyllama-1.1b", backend="llama-cpp", n_gpu_layers=layers)
        if "CUDA" not in model.engine.build:
            pytest.skip(f"this build of llama.cpp has no CUDA: {model.engine.build}")
        result = measure(model, name=f"{layers} layers")
        speeds.append(result.decode_tps.median)
    assert speeds[1] > speeds[0]
