"""Does measuring work here at all? A small synthetic model on each engine, in about two minutes.

The limits are what any machine that is meant for inference meets; what they catch is an engine
that runs without its vector instructions, or a model that is not the size it claims.
"""

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fixtures import LoadModel, Measure
from pytest_llmperf.options import read_settings

SOURCE = "synthetic:llama-160m"
CASES = [
    pytest.param(SOURCE, "llama-cpp", "Q4_K_M", id="llama-cpp-Q4_K_M", marks=perf(max_ram_gb=0.6)),
    pytest.param(SOURCE, "llama-cpp", "Q8_0", id="llama-cpp-Q8_0", marks=perf(max_ram_gb=0.7)),
    # torch takes up to 3 GiB for itself where it finds a GPU.
    pytest.param(SOURCE, "transformers", "BF16", id="transformers-BF16", marks=perf(max_ram_gb=4)),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The user's own engine and model, when named, take the place of the three cases."""
    settings = read_settings(metafunc.config)
    named = settings.backend or settings.model
    own = [pytest.param(settings.model or SOURCE, None, None, id=named)]
    metafunc.parametrize(("source", "backend", "quantization"), own if named else CASES)


@perf(min_tps=5, min_prefill_tps=20)
def test_generates(
    load_model: LoadModel,
    measure: Measure,
    source: str,
    backend: str | None,
    quantization: str | None,
) -> None:
    model = load_model(source, backend=backend, quantization=quantization)
    result = measure(model, prompt_tokens=128, new_tokens=32)
    assert result.prefill_tps.median > result.decode_tps.median  # a batch reads weights once
