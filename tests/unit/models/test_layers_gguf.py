"""The layers that a GGUF header describes, by llama.cpp's rules, and every wrong key."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmperf.models import BrokenModelFile, UnsupportedModel
from pytest_llmperf.models.catalogue import find
from pytest_llmperf.models.layers import (
    Experts,
    FullAttention,
    LatentAttention,
    Layers,
    LlamaContext,
    Recurrent,
    SlidingAttention,
    cache_elements,
    llama_cpp_bytes,
)
from pytest_llmperf.models.layers_gguf import (
    ARCHITECTURES,
    GgufFacts,
    as_converted,
    layers_of_gguf,
)
from pytest_llmperf.models.layers_hf import layers_of_config

SIZES: dict[str, Any] = {
    "block_count": 4,
    "embedding_length": 64,
    "context_length": 512,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
}
STATE = {"ssm.inner_size": 128, "ssm.state_size": 16, "ssm.conv_kernel": 4}


def facts(architecture: str, **changes: Any) -> GgufFacts:
    """A header of small sizes; two underscores in a name are a dot, None leaves a key out."""
    sizes = SIZES | {name.replace("__", "."): value for name, value in changes.items()}
    given = {f"{architecture}.{name}": each for name, each in sizes.items() if each is not None}
    arrays = {key: value for key, value in given.items() if isinstance(value, tuple)}
    return GgufFacts(
        origin="here.gguf",
        metadata={"general.architecture": architecture}
        | {key: value for key, value in given.items() if key not in arrays},
        arrays=arrays,
        array_lengths={"tokenizer.ggml.tokens": 99},
        tensor_names={"token_embd.weight", "output.weight"},
    )


def state(**more: Any) -> dict[str, Any]:
    return {name.replace(".", "__"): value for name, value in (STATE | more).items()}


def layers(architecture: str, **changes: Any) -> Layers:
    return layers_of_gguf(facts(architecture, **changes))


def windows(found: Layers) -> list[int]:
    return [each.window if isinstance(each, SlidingAttention) else 0 for each in found.layers]


def test_a_plain_model() -> None:
    found = layers("llama", vocab_size=77)
    assert found.layers == (FullAttention(2, 16, 16),) * 4
    assert (found.hidden, found.vocab, found.heads, found.max_context) == (64, 77, 4, 512)
    assert (found.tied, found.experts) == (False, None)
    assert layers("phi2", attention__head_count_kv=None).layers[0] == FullAttention(4, 16, 16)


def test_vocabulary_and_tied_output_by_what_the_file_has() -> None:
    header = facts("qwen3")
    assert layers_of_gguf(header).vocab == 99
    tied = GgufFacts(
        origin="here.gguf",
        metadata=header.metadata,
        array_lengths=header.array_lengths,
        tensor_names={"token_embd.weight"},
    )
    assert layers_of_gguf(tied).tied


def test_a_head_has_the_length_that_the_header_states() -> None:
    found = layers("qwen3", attention__key_length=128, attention__value_length=96)
    assert found.layers[0] == FullAttention(2, 128, 96)


@pytest.mark.parametrize(
    ("architecture", "changes", "expected"),
    [
        ("gemma2", {}, [4096, 0, 4096, 0]),
        ("gemma2", {"attention__sliding_window": 9}, [9, 0, 9, 0]),
        ("gemma3", {}, [0, 0, 0, 0]),
        ("gemma3", {"attention__sliding_window": 9}, [9, 9, 9, 9]),
        ("gemma3", {"attention__sliding_window": 9, "block_count": 7}, [9, 9, 9, 9, 9, 0, 9]),
        ("gpt-oss", {"attention__sliding_window": 9}, [9, 0, 9, 0]),
        ("llama", {"attention__sliding_window": 9}, [0, 0, 0, 0]),
        ("phi3", {"attention__sliding_window": 9}, [0, 0, 0, 0]),
        ("qwen2", {"attention__sliding_window": 9}, [0, 0, 0, 0]),
        (
            "gemma3",
            {"attention__sliding_window": 9, "attention__sliding_window_pattern": 3},
            [9, 9, 0, 9],
        ),
        (
            "gemma3",
            {"attention__sliding_window": 9, "attention__sliding_window_pattern": 0},
            [9, 9, 9, 9],
        ),
        (
            "gpt-oss",
            {
                "attention__sliding_window": 9,
                "attention__sliding_window_pattern": (False, True, True, False),
            },
            [0, 9, 9, 0],
        ),
    ],
)
def test_windows_that_llama_cpp_obeys(
    architecture: str, changes: dict[str, Any], expected: list[int]
) -> None:
    assert windows(layers(architecture, **changes)) == expected


def test_deepseek_keeps_latents_where_the_file_has_the_split_keys() -> None:
    new = layers(
        "deepseek2",
        attention__head_count_kv=1,
        attention__kv_lora_rank=512,
        attention__key_length=576,
        attention__value_length=512,
        attention__key_length_mla=192,
        attention__value_length_mla=128,
    )
    assert new.layers == (LatentAttention(512, 64, FullAttention(4, 192, 128)),) * 4
    old = layers(
        "deepseek2",
        attention__head_count_kv=4,
        attention__kv_lora_rank=512,
        attention__key_length=192,
        attention__value_length=128,
    )
    assert old.layers == (FullAttention(4, 192, 128),) * 4


def test_layers_that_foretell_are_not_counted() -> None:
    found = layers("qwen3moe", nextn_predict_layers=1, expert_count=8, expert_used_count=2)
    assert len(found.layers) == 3
    assert found.experts == Experts(8, 2)


def test_a_mamba_state_does_not_grow() -> None:
    found = layers("mamba", **state(), attention__head_count=0, attention__head_count_kv=None)
    assert found.layers == (Recurrent(128, 4, 2048),) * 4
    assert found.heads == 0
    context = LlamaContext(context_tokens=8192)
    assert llama_cpp_bytes(found.layers[0], context) == (3 * 128 + 2048) * 4


def test_jamba_attends_where_it_has_key_heads() -> None:
    found = layers("jamba", **state(), attention__head_count_kv=(0, 0, 2, 0))
    recurrent = Recurrent(128, 4, 2048)
    assert found.layers == (recurrent, recurrent, FullAttention(2, 16, 16), recurrent)


def test_qwen3next_attends_in_every_fourth_layer() -> None:
    sizes = state(**{"ssm.group_count": 2})
    recurrent = Recurrent(128 + 2 * 2 * 16, 4, 2048)
    found = layers("qwen3next", **sizes)
    assert found.layers == (*([recurrent] * 3), FullAttention(2, 16, 16))
    found = layers("qwen3next", **sizes, full_attention_interval=2)
    assert [type(each) for each in found.layers] == [Recurrent, FullAttention] * 2
    found = layers("qwen3next", **sizes, attention__recurrent_layers=(False, True, True, True))
    assert [type(each) for each in found.layers] == [FullAttention, *([Recurrent] * 3)]


def test_what_becomes_of_a_config_in_a_gguf_file() -> None:
    mistral = as_converted(layers_of_config(find("mistral-7b")), "mistral")
    assert mistral.layers == (FullAttention(8, 128, 128),) * 32
    for name, model_type in (("gemma-3-1b", "gemma3_text"), ("gpt-oss-20b", "gpt_oss")):
        kept = layers_of_config(find(name))
        assert as_converted(kept, model_type) == kept


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_keeps_something(architecture: str) -> None:
    sizes = state(**{"ssm.group_count": 2}, **{"attention.sliding_window": 9})
    found = layers(architecture, **sizes)
    assert len(found.layers) == 4
    assert all(cache_elements(each, 100) for each in found.layers)


@pytest.mark.parametrize("key", [*SIZES])
@pytest.mark.parametrize("value", [None, -1, "12", 1.5, True])
def test_a_missing_or_wrong_key_is_named(key: str, value: object) -> None:
    if key == "attention.head_count_kv" and value is None:
        return  # then every head has its own
    with pytest.raises(BrokenModelFile, match=rf"here\.gguf: metadata 'llama\.{key}' is "):
        layers("llama", **{key: value})


@pytest.mark.parametrize(
    ("architecture", "changes", "problem"),
    [
        ("llama", {"block_count": 0}, "'llama.block_count' is 0"),
        ("llama", {"block_count": 10**9}, "'llama.block_count' is 1000000000; it must leave"),
        ("llama", {"nextn_predict_layers": 4}, "'llama.block_count' is 0; it must leave 1"),
        ("llama", {"expert_count": 8}, "'llama.expert_used_count' is missing"),
        ("llama", {"vocab_size": "x"}, "'llama.vocab_size' is 'x'"),
        ("gpt-oss", {}, "'gpt-oss.attention.sliding_window' is missing"),
        ("mamba", {}, "'mamba.ssm.inner_size' is missing"),
        ("jamba", {"attention__head_count_kv": (0, 2)}, "is 2; it must have an item for each"),
        ("jamba", {"attention__head_count_kv": (0, 2, 0, -1)}, "is -1; it must hold whole"),
        ("jamba", {"attention__head_count_kv": (0, 2, 0.5, 1)}, "is 0.5; it must hold whole"),
        (
            "deepseek2",
            {
                "attention__key_length_mla": 192,
                "attention__kv_lora_rank": 512,
                "attention__key_length": 512,
            },
            "'deepseek2.attention.key_length' is 512; it must be more than the rank 512",
        ),
        (
            "deepseek2",
            {"attention__key_length_mla": 192, "attention__key_length": 512},
            "'deepseek2.attention.kv_lora_rank' is missing",
        ),
    ],
)
def test_what_a_header_lacks_is_named(
    architecture: str, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BrokenModelFile, match=problem):
        layers(architecture, **changes)


def test_an_array_that_was_too_long_to_keep_is_named() -> None:
    header = facts("jamba", attention__head_count_kv=None, **state())
    lengths = dict(header.array_lengths) | {"jamba.attention.head_count_kv": 10**6}
    long = GgufFacts(origin="here.gguf", metadata=header.metadata, array_lengths=lengths)
    with pytest.raises(BrokenModelFile, match="head_count_kv' is 'another array'"):
        layers_of_gguf(long)


def test_a_file_without_vocabulary_or_architecture() -> None:
    metadata = facts("llama").metadata
    with pytest.raises(BrokenModelFile, match=r"'tokenizer\.ggml\.tokens' is missing"):
        layers_of_gguf(GgufFacts(origin="here.gguf", metadata=metadata))
    with pytest.raises(BrokenModelFile, match=r"'general\.architecture' is missing"):
        layers_of_gguf(GgufFacts(origin="here.gguf", metadata={}))
    with pytest.raises(UnsupportedModel, match=r"'opt' keep is not.*Known: bloom, deepseek2"):
        layers("opt")
