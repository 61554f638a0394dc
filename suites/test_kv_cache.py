"""What does the key-value cache save here, and what does it take?

Confirmed: with it a token costs the same after a long prompt, without it more and more; a second
turn reads its own words only; heads that share their keys, and fewer bits, take as much less.
Refuted: the 15 GB that the guide has octocoder keep for 16,000 tokens. They would be those of 48
heads with keys of their own; octocoder's share one, and its cache is 0.33 GB.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_llmperf import perf
from pytest_llmperf.fixtures import LoadModel, Measure
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.layers import transformers_bytes
from pytest_llmperf.models.layers_hf import layers_of_config

from .conftest import Model, private_bytes

LAYERS, HEADS, HEAD_NUMBERS = 8, 8, 64
SHAPE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 512,
    "hidden_size": HEADS * HEAD_NUMBERS,
    "intermediate_size": 512,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 32768,
    "hidden_act": "silu",
}
OCTOCODER = {
    "model_type": "gpt_bigcode",
    "vocab_size": 49152,
    "n_layer": 40,
    "n_head": 48,
    "n_embd": 6144,
    "n_positions": 8192,
}


@pytest.fixture
def long(hardware: Hardware) -> int:
    """Tokens whose reading takes far longer than a step: a GPU reads hundreds like one."""
    return 2048 if hardware.accelerators else 192


@pytest.mark.claim("with a cache a token costs the same at any depth, without one more and more")
@perf(samples=5)
def test_a_token_costs_more_and_more_without_a_cache(
    load_model: LoadModel,
    measure: Measure,
    folder: Model,
    long: int,
    record_property: Callable[[str, object], None],
) -> None:
    cached = load_model(**folder, backend="transformers")
    without = load_model(**folder, backend="transformers", cache_implementation="off")
    assert cached.engine.kv_element_bytes
    assert without.engine.kv_element_bytes == 0
    growth = {}
    for model in (cached, without):
        early, late = (
            measure(model, prompt_tokens=tokens, new_tokens=4, name=f"{what} after {tokens}")
            for what, tokens in (
                (model.options["cache_implementation"], each) for each in (16, long)
            )
        )
        kind = str(model.options["cache_implementation"])
        growth[kind] = late.tpot.median / early.tpot.median
        record_property(f"{kind}: time of a token after {long} ÷ after 16", f"{growth[kind]:.2f}")
    assert growth["dynamic"] < 1.6
    assert growth["off"] > 2.5


@pytest.mark.claim(
    "a second turn that reuses the cache begins far sooner than one that reads all again"
)
@perf(samples=5)
def test_a_second_turn_reads_only_its_own_words(
    load_model: LoadModel,
    measure: Measure,
    gguf: Model,
    long: int,
    record_property: Callable[[str, object], None],
) -> None:
    model = load_model(**gguf, backend="llama-cpp", n_ctx=2 * long)
    asked, before = 16, long - 16
    kept = measure(model, depth=before, prompt_tokens=asked, new_tokens=4, name="kept")
    again = measure(model, prompt_tokens=before + asked, new_tokens=4, name="read again")
    share = kept.ttft.median / again.ttft.median
    record_property("first token, × that of reading all again", f"{share:.3f}")
    assert share < 1 / 4


@pytest.mark.claim("a static cache changes nothing that is said")
@perf(samples=5, max_kl_divergence=1e-6)
def test_a_static_cache_changes_nothing_that_is_said(
    load_model: LoadModel, measure: Measure, trained_folder: Model
) -> None:
    """In float32: in fewer bits another order of the same sums is another result."""
    usual: dict[str, Any] = {**trained_folder, "backend": "transformers", "dtype": "float32"}
    model = load_model(**usual, cache_implementation="static")
    assert model.options["cache_implementation"] == "static"
    measure(model, prompt_tokens=64, new_tokens=16, against=usual)


@pytest.mark.claim("a cache in a quarter of the bits says nearly the same")
@perf(samples=5, max_kl_divergence=0.005)
def test_a_cache_of_a_quarter_of_the_bits_says_nearly_the_same(
    load_model: LoadModel, measure: Measure, trained_folder: Model
) -> None:
    """The prompt is quantized at once, what follows when ``cache_residual_length`` have come."""
    model = load_model(
        **trained_folder,
        backend="transformers",
        cache_implementation="quantized",
        cache_group_size=32,
        cache_residual_length=8,
    )
    assert model.engine.kv_element_bytes is not None
    assert 0.5 < model.engine.kv_element_bytes < 0.8  # bfloat16 has 2
    told = measure(model, prompt_tokens=64, new_tokens=16, against={})
    assert told.kl_divergence.median > 1e-5  # what was read back is not what was stored


@pytest.mark.claim(
    "the cache of GQA and MQA is kv_heads ÷ heads of that of MHA; in 8 bits it is half"
)
@perf(samples=5)
@pytest.mark.parametrize(
    ("kv_heads", "kind", "number_bytes"),
    [
        pytest.param(8, "f16", 2, id="MHA"),
        pytest.param(2, "f16", 2, id="GQA", marks=pytest.mark.quick),
        pytest.param(1, "f16", 2, id="MQA"),
        pytest.param(8, "q8_0", 34 / 32, id="MHA-q8_0"),
    ],
)
def test_the_cache_is_as_large_as_its_heads_and_bits(
    load_model: LoadModel,
    measure: Measure,
    synthetic: Callable[[Mapping[str, Any]], str],
    kv_heads: int,
    kind: str,
    number_bytes: float,
) -> None:
    source = synthetic(SHAPE | {"num_key_value_heads": kv_heads})
    contexts, held = (2048, 32768), []
    for n_ctx in contexts:
        model = load_model(
            source,
            backend="llama-cpp",
            n_ctx=n_ctx,
            n_ubatch=8,
            n_gpu_layers=0,
            type_k=kind,
            type_v=kind,
        )
        taken = measure(model, prompt_tokens=8, new_tokens=4, name=f"{n_ctx} tokens")
        held.append(private_bytes(taken))
    token_bytes = 2 * LAYERS * kv_heads * HEAD_NUMBERS * number_bytes
    grown = (contexts[1] - contexts[0]) * token_bytes
    assert held[1] - held[0] == pytest.approx(grown, rel=0.1)


@pytest.mark.quick
@pytest.mark.claim(
    "16,000 tokens of octocoder take about 15 GB of cache",
    instead="15.7 GB are those of heads with keys of their own; its share one: 0.33 GB",
)
@pytest.mark.parametrize(("shares_keys", "gb"), [(False, 15.7), (True, 0.33)])
def test_what_16_000_tokens_of_octocoder_take(shares_keys: bool, gb: float) -> None:
    config = ModelConfig("octocoder", OCTOCODER | {"multi_query": shares_keys})
    kept = sum(transformers_bytes(each, 16_000) for each in layers_of_config(config).layers)
    assert kept / 1e9 == pytest.approx(gb, rel=0.01)
