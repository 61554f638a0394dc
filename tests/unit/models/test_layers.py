"""What a layer keeps, against sums made by hand from the published shapes."""

from __future__ import annotations

import pytest

from pytest_llmperf.models import UnknownQuantization, UnsupportedModel
from pytest_llmperf.models.layers import (
    FullAttention,
    LatentAttention,
    Layer,
    LlamaContext,
    Nothing,
    Recurrent,
    SlidingAttention,
    cache_elements,
    llama_cpp_bytes,
    llama_cpp_cells,
    transformers_bytes,
    vllm_bytes,
)

GROUPED = FullAttention(8, 128, 128)  # Llama 3.1 8B, Mistral 7B
SLIDING = SlidingAttention(8, 64, 64, 128)  # gpt-oss-20b
LATENT = LatentAttention(512, 64, FullAttention(16, 192, 128))  # DeepSeek-V2-Lite
MAMBA = Recurrent(1536, 4, 1536 * 16)  # mamba-130m


@pytest.mark.parametrize(
    ("layer", "by_tokens"),
    [
        (GROUPED, {0: 0, 1: 2048, 1000: 2_048_000}),
        (SLIDING, {1: 1024, 127: 127 * 1024, 128: 128 * 1024, 5000: 128 * 1024}),
        (LATENT, {1: 576, 1000: 576_000}),
        (MAMBA, {1: 3 * 1536 + 24_576, 9999: 3 * 1536 + 24_576}),
        (Nothing(), {1: 0, 9999: 0}),
        (FullAttention(2, 192, 128), {10: 10 * 2 * 320}),
    ],
)
def test_what_the_definition_asks_for(layer: Layer, by_tokens: dict[int, int]) -> None:
    assert {tokens: cache_elements(layer, tokens) for tokens in by_tokens} == by_tokens


def test_transformers_holds_a_whole_prompt_until_the_first_step() -> None:
    assert transformers_bytes(GROUPED, 100, prompt_tokens=90) == 100 * 2048 * 2
    assert transformers_bytes(SLIDING, 100, prompt_tokens=90) == 100 * 1024 * 2
    assert transformers_bytes(SLIDING, 1010, prompt_tokens=1000) == 1000 * 1024 * 2
    assert transformers_bytes(SLIDING, 1010, prompt_tokens=50) == 128 * 1024 * 2
    assert transformers_bytes(SLIDING, 1010) == 128 * 1024 * 2
    assert transformers_bytes(SLIDING, 1010, element_bytes=4) == 128 * 1024 * 4


def test_transformers_keeps_latents_or_whole_keys_and_repeats_those_of_falcon() -> None:
    assert transformers_bytes(LATENT, 10) == 10 * 576 * 2
    assert transformers_bytes(LATENT, 10, latent=False) == 10 * 16 * (192 + 128) * 2
    falcon = FullAttention(8, 64, 64, 128)  # Falcon 40B: 128 heads that share 8 keys
    assert transformers_bytes(falcon, 10) == 10 * 128 * 128 * 2
    assert vllm_bytes(falcon, 16) == 16 * 8 * 128 * 2


def test_transformers_keeps_states_in_float32_and_the_newest_column() -> None:
    assert transformers_bytes(MAMBA, 7) == transformers_bytes(MAMBA, 7000)
    assert transformers_bytes(MAMBA, 7) == 4 * 1536 * 2 + 24_576 * 4
    assert transformers_bytes(Nothing(), 7) == 0


def test_vllm_fills_whole_blocks_windows_or_not() -> None:
    assert vllm_bytes(GROUPED, 17) == 32 * 2048 * 2
    assert vllm_bytes(GROUPED, 32) == 32 * 2048 * 2
    assert vllm_bytes(SLIDING, 5000) == 5008 * 1024 * 2
    assert vllm_bytes(LATENT, 100, block_tokens=64) == 128 * 576 * 2
    assert vllm_bytes(LATENT, 16, element_bytes=1) == 16 * 576
    assert vllm_bytes(MAMBA, 5000) == (3 * 1536 + 24_576) * 2


@pytest.mark.parametrize(
    ("context", "full", "sliding"),
    [
        (LlamaContext(context_tokens=4096), 4096, 768),  # 128 + 512 → 3 × 256
        (LlamaContext(context_tokens=4096, ubatch_tokens=128), 4096, 256),
        (LlamaContext(context_tokens=4096, swa_full=True), 4096, 4096),
        (LlamaContext(context_tokens=300), 512, 512),
        (LlamaContext(context_tokens=8192, sequences=4), 4 * 2048, 4 * 768),
        (LlamaContext(context_tokens=8192, sequences=4, unified=True), 8192, 1024),
        (LlamaContext(context_tokens=4096, sequences=10), 10 * 512, 10 * 512),
    ],
)
def test_llama_cpp_rounds_cells_per_stream(context: LlamaContext, full: int, sliding: int) -> None:
    assert llama_cpp_cells(GROUPED, context) == full
    assert llama_cpp_cells(SLIDING, context) == sliding
    assert llama_cpp_cells(MAMBA, context) == llama_cpp_cells(Nothing(), context) == 0


@pytest.mark.parametrize(
    ("key_type", "value_type", "row"),
    [
        ("f16", "f16", 4096),
        ("F32", "bf16", 4096 + 2048),
        ("q8_0", "q8_0", 2 * 32 * 34),
        ("q8_0", "q4_0", 32 * 34 + 32 * 18),
    ],
)
def test_llama_cpp_rows_in_blocks(key_type: str, value_type: str, row: int) -> None:
    context = LlamaContext(context_tokens=256, key_type=key_type, value_type=value_type)
    assert llama_cpp_bytes(GROUPED, context) == 256 * row


def test_llama_cpp_keeps_no_values_under_mla_and_a_state_per_sequence() -> None:
    context = LlamaContext(context_tokens=512, sequences=2)
    assert llama_cpp_bytes(LATENT, context) == 512 * 576 * 2
    assert llama_cpp_bytes(MAMBA, context) == 2 * (3 * 1536 + 24_576) * 4
    assert llama_cpp_bytes(Nothing(), context) == 0


def test_a_cache_type_that_llama_cpp_refuses() -> None:
    odd = FullAttention(4, 80, 80)  # Phi-2's heads
    with pytest.raises(UnsupportedModel, match=r"type q8_0 .* blocks of 32 .* head of 80.*f16"):
        llama_cpp_bytes(odd, LlamaContext(context_tokens=256, key_type="q8_0"))
    with pytest.raises(UnsupportedModel, match="type q4_0"):
        llama_cpp_bytes(odd, LlamaContext(context_tokens=256, value_type="q4_0"))
    with pytest.raises(UnsupportedModel, match=r"same type, not q8_0 and f16"):
        llama_cpp_bytes(LATENT, LlamaContext(context_tokens=256, key_type="q8_0"))
    with pytest.raises(UnknownQuantization, match=r"'q4_k'.*Known: f32, f16, .*q4_0"):
        llama_cpp_bytes(GROUPED, LlamaContext(context_tokens=256, key_type="q4_k"))
