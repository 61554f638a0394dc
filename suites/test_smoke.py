"""Does measuring work here at all? Small synthetic models on each engine, in about two minutes.

The limits are what any machine that is meant for inference meets; what they catch is an engine
that runs without its vector instructions, or a model that is not the size it claims.
"""

import pytest

from pytest_llmperf.fixtures import LoadModel, Measure

CASES = [
    pytest.param(
        "llama-cpp", "Q4_K_M", id="llama-cpp-Q4_K_M", marks=pytest.mark.perf(max_ram_gb=0.6)
    ),
    pytest.param("llama-cpp", "Q8_0", id="llama-cpp-Q8_0", marks=pytest.mark.perf(max_ram_gb=0.7)),
    # torch takes up to 3 GiB for itself where it finds a GPU.
    pytest.param(
        "transformers", "BF16", id="transformers-BF16", marks=pytest.mark.perf(max_ram_gb=4)
    ),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    backend = metafunc.config.getoption("llmperf_backend")
    cases = [pytest.param(backend, None, id=backend)] if backend else CASES
    metafunc.parametrize(("backend", "quantization"), cases)


@pytest.mark.perf(min_tps=5, min_prefill_tps=20)
def test_generates(
    load_model: LoadModel,
    measure: Measure,
    request: pytest.FixtureRequest,
    backend: str,
    quantization: str | None,
) -> None:
    source = request.config.getoption("llmperf_model") or "synthetic:llama-160m"
    model = load_model(source, backend=backend, quantization=quantization)
    result = measure(model, prompt_tokens=128, new_tokens=64)
    assert result.prefill_tps.median > result.decode_tps.median  # a batch reads weights once
