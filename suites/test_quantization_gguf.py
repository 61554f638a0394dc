"""How small, how fast and how good is each level of llama.cpp's quantization here?

Quality is told by KL divergence from F16 on a small trained model, size by the file, speed by
pairs. A level that is fast because its output is broken is over its limit.
"""

import itertools

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fixtures import Compare, LoadModel, Measure

TRAINED, FAST = "trained:small", "synthetic:llama-160m"
LEVELS = [
    # Bits of a weight in its blocks, and nats from F16: two to three times what was seen.
    # A layer of zeros is 0.04 away.
    pytest.param("Q8_0", 8.5, marks=perf(max_kl_divergence=0.0001, min_top1_agreement=0.985)),
    pytest.param("Q6_K", 6.5625, marks=perf(max_kl_divergence=0.0006, min_top1_agreement=0.975)),
    pytest.param("Q5_K_S", 5.5, marks=perf(max_kl_divergence=0.0012, min_top1_agreement=0.965)),
    pytest.param("Q4_K_M", 4.5, marks=perf(max_kl_divergence=0.0025, min_top1_agreement=0.95)),
    pytest.param("Q4_0", 4.5, marks=perf(max_kl_divergence=0.003, min_top1_agreement=0.95)),
    pytest.param("Q3_K_M", 3.4375, marks=perf(max_kl_divergence=0.008, min_top1_agreement=0.93)),
    pytest.param("Q2_K", 2.625, marks=perf(max_kl_divergence=0.02, min_top1_agreement=0.90)),
]


@pytest.mark.quick
@pytest.mark.parametrize(("level", "bits"), LEVELS)
def test_a_level_says_what_f16_says(
    load_model: LoadModel, measure: Measure, level: str, bits: float
) -> None:
    model = load_model(TRAINED, backend="llama-cpp", quantization=level)
    measure(model, prompt_tokens=64, new_tokens=32, against={"quantization": "F16"})
    assert model.files is not None
    # The table and some layers keep more bits; nothing keeps fewer.
    assert bits <= model.files.bits_per_weight < bits + 1.5


@pytest.mark.quick
def test_fewer_bits_are_farther_away(load_model: LoadModel, measure: Measure) -> None:
    seen = []
    for level in ("Q8_0", "Q6_K", "Q4_K_M", "Q3_K_M", "Q2_K"):
        model = load_model(TRAINED, backend="llama-cpp", quantization=level)
        told = measure(
            model, prompt_tokens=64, new_tokens=32, against={"quantization": "F16"}, name=level
        )
        seen.append(told.kl_divergence.median)
    assert all(2 * fewer < more for fewer, more in itertools.pairwise(seen)), seen


@perf(samples=5)
def test_four_bits_are_smaller_and_faster_than_f16(compare: Compare) -> None:
    found = compare(
        {"quantization": "Q4_K_M"},
        {"quantization": "F16"},
        source=FAST,
        backend="llama-cpp",
        prompt_tokens=64,
        new_tokens=64,
        min_speedup=1.1,
        max_memory_ratio=0.8,
    )
    small, large = found.a[0].files, found.b[0].files
    assert small is not None
    assert large is not None
    assert small.weight_bytes < 0.4 * large.weight_bytes
