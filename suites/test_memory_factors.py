"""What decides how much memory a model takes? Its size, the type of its numbers, its context.

The guide: 4·X GB for X billion parameters in 32 bits, 2·X in 16, and a cache that grows with the
context. Its "GB" are 10⁹ bytes. All of it is arithmetic, so what was measured has to lie within
what was predicted before the load.
"""

from collections.abc import Callable
from typing import Any

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fit.footprint import RAM
from pytest_llmperf.fixtures import LoadModel, Measure
from pytest_llmperf.measure import Measurement

from .conftest import Model, private_bytes

GIB = 2**30
PROMPT: dict[str, Any] = {"prompt_tokens": 512, "new_tokens": 4}
"""What a prediction counts with: buffers that a shorter prompt leaves untouched take nothing."""


def is_as_predicted(seen: Measurement) -> bool:
    """Whether the peak lies in the interval that was told before the load."""
    assert seen.expected is not None, "nothing was predicted of this engine or model"
    return seen.ram.median * GIB in seen.expected.footprint.on(RAM).total


@pytest.mark.claim("weights take 4·X GB in fp32 and 2·X in fp16, for X billion parameters")
@pytest.mark.parametrize(
    ("quantization", "bytes_each"), [("F32", 4), pytest.param("F16", 2, marks=pytest.mark.quick)]
)
@perf(samples=5)
def test_weights_take_bytes_by_their_type(
    load_model: LoadModel, measure: Measure, made_small: str, quantization: str, bytes_each: int
) -> None:
    model = load_model(made_small, backend="llama-cpp", quantization=quantization, n_gpu_layers=0)
    assert model.files is not None
    assert model.files.parameters is not None
    # Norms are kept in 32 bits: a part in a thousand.
    per_parameter = model.files.weight_bytes / model.files.parameters
    assert bytes_each <= per_parameter < 1.01 * bytes_each
    assert is_as_predicted(measure(model, **PROMPT))


@pytest.mark.claim("a model in 16 bits takes 2·X GB less than in 32: transformers")
@perf(samples=5)
def test_half_the_bits_take_half_the_memory(
    load_model: LoadModel,
    measure: Measure,
    made_small: str,
    record_property: Callable[[str, object], None],
) -> None:
    """It takes some 0.4 GiB for itself in either.

    Whether a peak lies within its interval is told and not asserted: torch's heap varies by more.
    """
    seen = {}
    for kind, size in (("F32", 4), ("BF16", 2)):
        model = load_model(made_small, backend="transformers", device="cpu", quantization=kind)
        assert model.engine.weight_element_bytes == size
        seen[kind] = measure(model, prompt_tokens=128, new_tokens=4, name=kind)
        expected = seen[kind].expected
        assert expected is not None
        total, peak = expected.footprint.on(RAM).total, seen[kind].ram.median * GIB
        told = f"{peak / total.low:.2f} and {peak / total.high:.2f}"
        record_property(f"{kind}: peak ÷ low and high end of the prediction", told)
    assert model.files is not None
    assert model.files.parameters is not None
    saved = (seen["F32"].ram.median - seen["BF16"].ram.median) * GIB
    record_property("saved ÷ 2 bytes a parameter", f"{saved / (2 * model.files.parameters):.2f}")
    assert 0.75 < saved / (2 * model.files.parameters) < 1.6  # activations are halved, too


@pytest.mark.quick
@pytest.mark.claim("the key-value cache is linear in the context")
@perf(samples=5)
def test_the_cache_grows_with_the_context(
    load_model: LoadModel,
    measure: Measure,
    small_gguf: Model,
    record_property: Callable[[str, object], None],
) -> None:
    contexts = (1024, 2048, 4096, 8192)
    taken, predicted = [], []
    for tokens in contexts:
        model = load_model(**small_gguf, backend="llama-cpp", n_ctx=tokens, n_gpu_layers=0)
        seen = measure(model, prompt_tokens=32, new_tokens=8, name=f"{tokens} tokens")
        assert seen.expected is not None
        predicted.append(seen.expected.footprint.on(RAM).cache)
        taken.append(private_bytes(seen))
    assert [each / predicted[0] for each in predicted] == [1, 2, 4, 8]
    for more in range(1, len(contexts)):
        growth = (taken[more] - taken[0]) / (predicted[more] - predicted[0])
        record_property(f"growth to {contexts[more]} tokens ÷ predicted", f"{growth:.3f}")
        # Beside the cache little else grows with the context.
        assert 0.95 < growth < 1.10, f"{contexts[more]} tokens: {growth:.2f} of what was predicted"
