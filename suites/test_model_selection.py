"""Which model fits into the memory at hand? Answered before anything is downloaded.

The guide's list: TinyLlama 1.1B, Phi-2, Mistral 7B, Llama 2 of 7B and 13B, OPT-350m and 1.3b.
(DistilBERT is on it, too, and generates nothing.) The largest that surely fits is picked, and what
one size more would have taken is no longer there.
"""

from collections.abc import Callable

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fit.planning import plan
from pytest_llmperf.fit.preflight import Fit
from pytest_llmperf.fit.room import stated_room
from pytest_llmperf.fixtures import LoadModel, Measure

from .conftest import Model

BY_SIZE = (  # with billions of parameters, as published
    ("opt-350m", 0.331),
    ("tinyllama-1.1b", 1.1),
    ("opt-1.3b", 1.316),
    ("phi-2", 2.78),
    ("llama-2-7b", 6.74),
    ("mistral-7b", 7.24),
    ("llama-2-13b", 13.02),
)
GIB = 2**30


def largest(vram_gb: float, ram_gb: float, quantization: str) -> str | None:
    """Of the list, on the GPU whole."""
    room, picked = stated_room(ram_gb=ram_gb, vram_gb=vram_gb), None
    for name, _ in BY_SIZE:
        (row,) = plan(name, room, quantizations=[quantization])
        if row.fit is Fit.YES and row.where == "GPU":
            picked = name
    return picked


@pytest.mark.quick
@pytest.mark.claim("`plan` picks the largest model of the list that fits the stated memory")
@pytest.mark.parametrize(
    ("vram_gb", "quantization", "picked"),
    [
        (2, "Q4_K_M", "tinyllama-1.1b"),
        (4, "Q4_K_M", "phi-2"),
        (8, "Q4_K_M", "mistral-7b"),
        (12, "Q4_K_M", "llama-2-13b"),
        (8, "F16", "phi-2"),
        (16, "F16", "mistral-7b"),
        (16, "Q8_0", "mistral-7b"),
    ],
)
def test_the_largest_that_fits_is_picked(vram_gb: float, quantization: str, picked: str) -> None:
    assert largest(vram_gb, 16, quantization) == picked


@pytest.mark.quick
@pytest.mark.claim("the models of the list have the sizes that it states")
@pytest.mark.parametrize(("name", "billions"), BY_SIZE)
def test_a_plan_knows_the_size_of_a_model(name: str, billions: float) -> None:
    """Two bytes a parameter, of models that are not here."""
    (row,) = plan(name, stated_room(ram_gb=64), quantizations=["F16"])
    assert row.weights.middle / 2e9 == pytest.approx(billions, rel=0.02)


@pytest.mark.quick
@pytest.mark.claim("a tokenizer decides how much text a token is")
@perf(samples=5)
def test_tokens_per_character(
    load_model: LoadModel,
    measure: Measure,
    trained_gguf: Model,
    record_property: Callable[[str, object], None],
) -> None:
    """How much text a context holds, and what a token per second is worth.

    The small trained model reads bytes: one token a character. Of tokenizers that are in use it is
    a quarter to a third; give yours with ``--llmperf-model=``.
    """
    model = load_model(**trained_gguf, backend="llama-cpp")
    seen = measure(model, prompt_tokens=32, new_tokens=8, text="shipped")
    assert seen.quality is not None
    told = seen.quality.tokens_per_character
    assert told is not None
    record_property("tokens a character", f"{told:.3f}")
    if trained_gguf["source"].startswith("trained:"):
        assert told == pytest.approx(1, abs=0.05)
    else:
        assert 0.15 < told < 0.6


@pytest.mark.claim("tokenizers in use make a quarter to a third of a token of a character")
@pytest.mark.parametrize("name", ["TinyLlama/TinyLlama-1.1B-Chat-v1.0", "microsoft/phi-2"])
@perf(samples=5)
def test_tokenizers_of_the_list(load_model: LoadModel, measure: Measure, name: str) -> None:
    """Skips where the model was not downloaded."""
    model = load_model(f"hf:{name}", backend="transformers")
    seen = measure(model, prompt_tokens=32, new_tokens=8, text="shipped")
    assert seen.quality is not None
    assert 0.2 < (seen.quality.tokens_per_character or 0) < 0.35
