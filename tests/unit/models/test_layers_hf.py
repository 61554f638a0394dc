"""The layers that a config describes, against the published models and every wrong field."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmperf.models import BrokenModelFile, UnsupportedModel
from pytest_llmperf.models.catalogue import find
from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.layers import (
    Experts,
    FullAttention,
    LatentAttention,
    Layers,
    Recurrent,
    SlidingAttention,
    cache_elements,
)
from pytest_llmperf.models.layers_hf import MODEL_TYPES, layers_of_config
from tests.unit.models.conftest import TINY

OWN = {"num_attention_heads": None, "num_hidden_layers": None, "hidden_size": None}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
LATENT = {"kv_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12}
NEXT = {
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_num_value_heads": 4,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
}


def layers(model_type: str, **changes: Any) -> Layers:
    values = TINY | {"model_type": model_type} | changes
    given = {field: value for field, value in values.items() if value is not None}
    return layers_of_config(ModelConfig("here", given | null_window(changes)))


def null_window(changes: dict[str, Any]) -> dict[str, Any]:
    """A window that a config says is null is another thing than one that it does not mention."""
    return {field: None for field in changes if field == "sliding_window" and not changes[field]}


def windows(found: Layers) -> list[int]:
    return [each.window if isinstance(each, SlidingAttention) else 0 for each in found.layers]


@pytest.mark.parametrize(
    ("name", "per_token_bytes"),
    [
        ("llama-3.1-8b", 131_072),
        ("mistral-7b", 131_072),
        ("llama-2-7b", 524_288),
        ("tinyllama-1.1b", 22_528),
        ("qwen3-0.6b", 114_688),  # 28 × 8 × 2 × 128, which hidden/heads would halve
        ("gemma-3-4b", 34 * 4 * 512 * 2),
        ("gpt-oss-20b", 24 * 8 * 128 * 2),
        ("deepseek-v2-lite", 27 * 576 * 2),
        ("opt-350m", 24 * 2 * 1024 * 2),
    ],
)
def test_published_models_by_hand(name: str, per_token_bytes: int) -> None:
    found = layers_of_config(find(name))
    assert sum(cache_elements(each, 1) for each in found.layers) * 2 == per_token_bytes


def test_five_windows_of_gemma_3_and_then_all() -> None:
    found = layers_of_config(find("gemma-3-4b"))
    assert windows(found) == ([1024] * 5 + [0]) * 5 + [1024] * 4
    in_view = 29 * 1024 + 5 * 8192
    assert sum(cache_elements(each, 8192) for each in found.layers) == in_view * 4 * 512
    assert (found.heads, found.vocab, found.max_context) == (8, 262_208, 131_072)
    assert (found.hidden, found.tied) == (2560, True)


def test_every_other_layer_of_gpt_oss_sees_128_tokens() -> None:
    found = layers_of_config(find("gpt-oss-20b"))
    assert windows(found) == [128, 0] * 12
    assert found.layers[1] == FullAttention(8, 64, 64)
    assert found.experts == Experts(32, 4)


def test_deepseek_keeps_one_compressed_vector() -> None:
    found = layers_of_config(find("deepseek-v2-lite"))
    assert found.layers == (LatentAttention(512, 64, FullAttention(16, 192, 128)),) * 27
    assert found.experts == Experts(64, 6)


@pytest.mark.parametrize(
    ("model_type", "changes", "expected"),
    [
        ("mistral", {}, [4096, 4096]),  # transformers' default where the field is missing
        ("mistral", {"sliding_window": None}, [0, 0]),
        ("mistral", {"sliding_window": 7}, [7, 7]),
        ("mixtral", {}, [0, 0]),
        ("llama", {}, [0, 0]),
        ("phi3", {"sliding_window": 2047}, [2047, 2047]),
        ("qwen2", {"sliding_window": 9, "max_window_layers": 1}, [0, 0]),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
            [0, 9],
        ),
        (
            "qwen3",
            {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 0},
            [9, 9],
        ),
        ("qwen3_moe", {"use_sliding_window": True, "sliding_window": 9}, [9, 9]),
        (
            "qwen2_moe",
            {
                "use_sliding_window": True,
                "sliding_window": 9,
                "max_window_layers": 4,
                "num_hidden_layers": 6,
            },
            [9, 0, 9, 0, 0, 0],
        ),
        ("gemma2", {}, [4096, 0]),
        (
            "gemma3_text",
            {"sliding_window": 8, "sliding_window_pattern": 2, "num_hidden_layers": 4},
            [8, 0, 8, 0],
        ),
        ("gpt_oss", {"layer_types": ["full_attention", "sliding_attention"]}, [0, 128]),
    ],
)
def test_which_layers_have_a_window(
    model_type: str, changes: dict[str, Any], expected: list[int]
) -> None:
    assert windows(layers(model_type, **changes)) == expected


def test_a_head_is_its_own_field_and_only_else_its_share_of_the_width() -> None:
    assert layers("llama").layers[0] == FullAttention(2, 16, 16)
    assert layers("llama", head_dim=24).layers[0] == FullAttention(2, 24, 24)
    assert layers("qwen3").layers[0] == FullAttention(2, 128, 128)
    assert layers("gemma2", sliding_window=None).layers[0] == FullAttention(2, 256, 256)


def test_falcons_three_ways_to_share_keys() -> None:
    one, each, some = (
        layers("falcon", **changes)
        for changes in (
            {"num_kv_heads": 4},
            {"multi_query": False},
            {"new_decoder_architecture": True, "num_kv_heads": 2},
        )
    )
    assert one.layers[0] == FullAttention(1, 16, 16)
    assert each.layers[0] == FullAttention(4, 16, 16)
    assert some.layers[0] == FullAttention(2, 16, 16, 4)


def test_fields_by_their_own_names() -> None:
    gpt2 = layers(
        "gpt2", **OWN, num_key_value_heads=None, n_embd=64, n_layer=3, n_head=4, n_positions=128
    )
    assert gpt2.layers == (FullAttention(4, 16, 16),) * 3
    assert (gpt2.hidden, gpt2.max_context, gpt2.tied) == (64, 128, True)
    bloom = layers("bloom", **OWN, n_embed=64, n_layer=3, n_head=4, seq_length=99)
    assert (len(bloom.layers), bloom.hidden, bloom.heads) == (3, 64, 4)


def test_a_mamba_state_does_not_grow() -> None:
    changes = {"expand": 2, "state_size": 16, "conv_kernel": 4}
    found = layers("mamba", num_attention_heads=None, max_position_embeddings=None, **changes)
    assert found.layers == (Recurrent(128, 4, 2048),) * 2
    assert (found.heads, found.max_context, found.tied) == (0, None, True)


def test_jamba_attends_in_one_of_a_period() -> None:
    mamba = {"mamba_expand": 2, "mamba_d_state": 16, "mamba_d_conv": 4}
    period = {"attn_layer_period": 4, "attn_layer_offset": 2, "num_hidden_layers": 8}
    found = layers("jamba", **mamba, **period, **EXPERTS)
    kinds = [type(each) for each in found.layers]
    assert kinds == [Recurrent, Recurrent, FullAttention, Recurrent] * 2
    assert layers("jamba", **mamba, **period, num_experts=1).experts is None


def test_qwen3_next_attends_in_every_fourth_layer() -> None:
    found = layers("qwen3_next", **NEXT, **EXPERTS, num_hidden_layers=4)
    recurrent = Recurrent(2 * 2 * 16 + 4 * 8, 4, 4 * 16 * 8)
    assert found.layers == (*([recurrent] * 3), FullAttention(2, 256, 256))
    listed = ["full_attention", "linear_attention"]
    found = layers("qwen3_next", **NEXT, **EXPERTS, layer_types=listed)
    assert found.layers == (FullAttention(2, 256, 256), recurrent)


@pytest.mark.parametrize(
    "field", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"]
)
@pytest.mark.parametrize("value", [None, 0, -1, "12", 1.5, True])
def test_a_missing_or_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(BrokenModelFile, match=f"here: field '{field}' is"):
        layers("llama", **{field: value})


@pytest.mark.parametrize(
    ("model_type", "changes", "problem"),
    [
        ("gpt2", OWN, "field 'n_embd' is missing"),
        ("bloom", OWN, "field 'hidden_size' is missing"),
        ("mamba", {}, "field 'expand' is missing"),
        ("jamba", {}, "field 'mamba_expand' is missing"),
        ("deepseek_v2", LATENT | {"kv_lora_rank": None}, "field 'kv_lora_rank' is missing"),
        ("deepseek_v3", LATENT | {"v_head_dim": None}, "field 'v_head_dim' is missing"),
        ("qwen3_next", {}, "field 'linear_num_key_heads' is missing"),
        ("mixtral", {"num_local_experts": 4}, "field 'num_experts_per_tok' is missing"),
        ("mixtral", EXPERTS | {"num_experts_per_tok": 5}, "'num_experts_per_tok' is 5, of 4"),
        ("llama", {"num_hidden_layers": 10**9}, "1000000000 layers; no model has more"),
        ("llama", {"num_attention_heads": 6}, "'head_dim' is missing, and 64 numbers"),
        ("llama", {"num_key_value_heads": 3}, "4 attention heads cannot share 3 of"),
        ("llama", {"head_dim": "x"}, "field 'head_dim' is 'x'"),
        ("llama", {"tie_word_embeddings": 1}, "field 'tie_word_embeddings' is 1"),
        ("gemma2", {"layer_types": ["full_attention"]}, "'layer_types' must list 2 times"),
        ("gemma2", {"layer_types": [["full_attention"], 3]}, "'layer_types' must list 2 times"),
        ("gemma2", {"layer_types": "full_attention"}, "'layer_types' must list 2 times"),
        ("gemma2", {"sliding_window": -3}, "field 'sliding_window' is -3"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 2}, "field 'sliding_window' is missing"),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 9},
            "field 'max_window_layers' is missing",
        ),
    ],
)
def test_what_a_config_lacks_is_named(
    model_type: str, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BrokenModelFile, match=problem):
        layers(model_type, **changes)


def test_other_model_types_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match=r"'gpt_neox' keep is not.*Known: bloom, .*qwen3"):
        layers("gpt_neox")
    for value in (None, 3, ""):
        with pytest.raises(BrokenModelFile, match="field 'model_type' is"):
            layers_of_config(ModelConfig("here", TINY | {"model_type": value}))
    assert len(MODEL_TYPES) == 23
