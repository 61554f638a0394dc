"""Does the main job hold on a real NVIDIA GPU?

    pytest --llmperf --llmperf-require=gpu -rs tests/gpu

Not part of `make test`: no machine of this project's CI has a GPU. llama.cpp takes part where the
installed build can offload (`CMAKE_ARGS="-DGGML_CUDA=ON"`).
"""

from __future__ import annotations

import subprocess

import pytest

from pytest_llmperf import perf, requires
from pytest_llmperf.fixtures import LoadModel, Measure
from pytest_llmperf.hardware import Hardware

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
