"""What the pictures of the HTML report in docs were measured with; one limit is meant to break."""

import pytest

from pytest_llmperf import perf, requires
from pytest_llmperf.fixtures import LoadModel, Measure

MODEL = "synthetic:llama-15m"


@perf(min_tps=20, max_ttft_p95_ms=2000, max_ram_gb=0.5)
@pytest.mark.parametrize("quantization", ["Q4_K_M", "Q8_0"])
def test_chat(load_model: LoadModel, measure: Measure, quantization: str) -> None:
    model = load_model(MODEL, backend="llama-cpp", quantization=quantization)
    measure(model, prompt_tokens=128, new_tokens=32)


@perf(max_ram_gb=0.05)
def test_fits_into_50_mib(load_model: LoadModel, measure: Measure) -> None:
    measure(load_model(MODEL, backend="llama-cpp"), prompt_tokens=64, new_tokens=16)


@pytest.mark.parametrize("backend", ["llama-cpp", "transformers"])
def test_engines(load_model: LoadModel, measure: Measure, backend: str) -> None:
    measure(load_model(MODEL, backend=backend), prompt_tokens=32, new_tokens=16)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 4])
def test_threads(load_model: LoadModel, measure: Measure, n_threads: int) -> None:
    model = load_model(MODEL, backend="llama-cpp", n_threads=n_threads)
    measure(model, prompt_tokens=128, new_tokens=16)


@pytest.mark.parametrize("quantization", ["F16", "Q8_0", "Q4_K_M"])
def test_quality(load_model: LoadModel, measure: Measure, quantization: str) -> None:
    model = load_model("trained:small", backend="llama-cpp", quantization=quantization)
    reference = {"source": "trained:small", "quantization": "F16"}
    if quantization == "F16":
        measure(model, prompt_tokens=64, new_tokens=16, text="shipped")
    else:
        measure(model, prompt_tokens=64, new_tokens=16, text="shipped", against=reference)


@requires(gpu=True)
def test_on_a_gpu(load_model: LoadModel, measure: Measure) -> None:
    measure(load_model(MODEL, backend="transformers"), prompt_tokens=128, new_tokens=32)
