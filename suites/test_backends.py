"""Which engine suits this machine? One model and one workload on each; the table is the answer.

Each engine has the model as it has it by itself: llama.cpp and its server in Q4_K_M, ONNX Runtime
in INT4, the others in BF16. What is not here says so.
"""

import shutil
from typing import Any

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fixtures import LoadModel, Measure
from pytest_llmperf.hardware import Hardware
from pytest_llmperf.measure import Measurement

PROMPT_TOKENS = 64
WORK: dict[str, Any] = {"prompt_tokens": PROMPT_TOKENS, "new_tokens": 16}


def check(seen: Measurement) -> None:
    """What no engine can get wrong, if it was measured rightly."""
    assert seen.invalid is None  # every token was counted
    assert seen.load.median > 0
    assert seen.ttft.median < seen.e2e.median
    assert seen.ttft.median < PROMPT_TOKENS * seen.tpot.median  # a prompt is read at once
    if seen.memory is not None and seen.files is not None and seen.engine.device == "cpu":
        assert seen.memory.peak.bytes > 0.8 * seen.files.weight_bytes


@pytest.mark.claim("engines of this environment: llama.cpp, transformers, ONNX Runtime")
@perf(samples=5)
@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("llama-cpp", marks=pytest.mark.quick),
        "transformers",
        pytest.param("onnxruntime", marks=pytest.mark.quick),
    ],
)
def test_engine_in_this_environment(
    load_model: LoadModel, measure: Measure, made_here: str, backend: str
) -> None:
    check(measure(load_model(made_here, backend=backend), **WORK))


@pytest.mark.claim("engines of environments of their own: vLLM, TensorRT-LLM, ExLlamaV2")
@perf(samples=5)
@pytest.mark.parametrize("backend", ["vllm", "tensorrt-llm", "exllamav2"])
def test_engine_in_an_environment_of_its_own(
    load_model: LoadModel, measure: Measure, made_here: str, backend: str
) -> None:
    """``--llmperf-python vllm=PATH`` says where it is."""
    eager: dict[str, Any] = {"enforce_eager": True} if backend == "vllm" else {}
    check(measure(load_model(made_here, backend=backend, **eager), **WORK))


@pytest.mark.claim("llama.cpp's server")
@perf(samples=5)
def test_llama_cpp_as_a_server(load_model: LoadModel, measure: Measure, made_here: str) -> None:
    if shutil.which("llama-server") is None:
        pytest.skip("llama-server is not on the PATH")
    check(measure(load_model(made_here, backend="openai", server="llama-server"), **WORK))


@pytest.mark.claim("ollama")
@perf(samples=5)
def test_ollama(load_model: LoadModel, measure: Measure) -> None:
    """Its own model, the only one that it has: not comparable with the others."""
    check(measure(load_model("served:by-ollama", backend="ollama"), **WORK))


@pytest.mark.claim("llama.cpp in 4 bits beats transformers in bf16 on a CPU")
@perf(samples=5)
def test_llama_cpp_beats_transformers_on_a_cpu(
    load_model: LoadModel, measure: Measure, made_here: str, hardware: Hardware
) -> None:
    """In four bits against sixteen, each as it comes."""
    if hardware.gpus:
        pytest.skip("this is about machines without a GPU")
    small = measure(load_model(made_here, backend="llama-cpp"), **WORK, name="llama.cpp")
    large = measure(load_model(made_here, backend="transformers"), **WORK, name="transformers")
    assert small.decode_tps.median > 1.5 * large.decode_tps.median
    assert small.ram.median < 0.7 * large.ram.median
    assert small.load.median < large.load.median
