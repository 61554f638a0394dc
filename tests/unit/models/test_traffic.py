"""What a step reads by the headers, against the published shapes and headers made for the test."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.models import ModelFiles, ModelSpec, resolve
from pytest_llmperf.models.describe import describe
from pytest_llmperf.models.traffic import (
    Attention,
    Traffic,
    prefill_flops,
    step_bytes,
    traffic_of,
)
from tests.unit.models import gguf_bytes as make
from tests.unit.models.conftest import ConfigWriter

F32 = 0


def known(files: ModelFiles) -> Traffic:
    traffic = traffic_of(files)
    assert isinstance(traffic, Traffic), traffic
    return traffic


def gguf(path: Path, architecture: str, numbers: dict[str, int], **tensors: Sequence[int]) -> Path:
    """A file of F32 tensors; two underscores in a name are a dot."""
    entries = [make.word("general.architecture", architecture)]
    entries += [make.number(f"{architecture}.{key}", value) for key, value in numbers.items()]
    rows, offset = [], 0
    for name, shape in tensors.items():
        rows.append(make.tensor(name.replace("__", ".") + ".weight", shape, F32, offset))
        offset += -(-4 * math.prod(shape) // 32) * 32
    path.write_bytes(make.file(entries, rows, b"\0" * offset))
    return path


def layers(count: int, **parts: Sequence[int]) -> dict[str, Sequence[int]]:
    return {f"blk__{i}__{name}": shape for i in range(count) for name, shape in parts.items()}


ATTENTION: dict[str, Sequence[int]] = {
    "attn_q": (8, 16),
    "attn_k": (8, 4),
    "attn_v": (8, 4),
    "attn_output": (16, 8),
}


@pytest.mark.parametrize("file_format", ["gguf", "hf"])
def test_llama_15m_by_hand(file_format: Any) -> None:
    """The shapes of llama2.c's 15M model: 6 layers, 288 wide, 6 heads of 48, a tied head."""
    files = resolve(ModelSpec("synthetic:llama-15m", "BF16"), file_format)
    traffic = known(files)
    matrices = 6 * (4 * 288 * 288 + 3 * 288 * 768)
    head, norms = 32000 * 288, 13 * 288
    norm_bytes = 2 if file_format == "hf" else 4  # llama.cpp keeps norms in F32
    assert traffic.dense_bytes == 2 * (matrices + head) + norm_bytes * norms
    assert (traffic.layer_parameters, traffic.head_parameters) == (matrices, head)
    assert traffic.attention == (Attention(layers=6, kv_values=576, query_values=576),)
    cache = 6 * 2 * 288 * 100 * 2
    assert step_bytes(traffic, depth_tokens=100) == traffic.dense_bytes + cache
    pairs = 6 * 288 * 2 * (10 * 11 // 2)
    assert prefill_flops(traffic, prompt_tokens=10) == 2 * (matrices * 10 + head + pairs)


def test_grouped_queries_and_a_tied_head(tiny: ConfigWriter) -> None:
    """The test's own model: 64 wide, 4 heads of 16 that share 2 of the keys, 512 tokens."""
    found = {}
    for tied in (True, False):
        spec = ModelSpec(tiny(tie_word_embeddings=tied), "F32")
        found[tied] = known(resolve(spec, "gguf"))
        assert known(resolve(spec, "hf")) == found[tied]
    matrices = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 160)
    # The embedding table is read whole where it is the head, and by rows only where it is not.
    for tied, traffic in found.items():
        assert traffic.tied is tied
        assert traffic.dense_bytes == 4 * (matrices + 512 * 64 + 5 * 64)
        assert traffic.attention == (Attention(layers=2, kv_values=64, query_values=128),)


def test_quantized_bytes_are_those_of_the_file(tiny: ConfigWriter) -> None:
    traffic = known(resolve(ModelSpec(tiny(), "Q8_0"), "gguf"))
    matrices = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 160) + 512 * 64
    assert traffic.dense_bytes == matrices * 34 // 32 + 5 * 64 * 4
    assert traffic.bits_per_weight == pytest.approx(8.5, abs=0.1)


def test_a_mixture_of_experts(tmp_path: Path) -> None:
    parts = {**ATTENTION, "ffn_gate_inp": (8, 4), "ffn_up_exps": (8, 6, 4), "ffn_up_shexp": (8, 6)}
    tensors = {"token_embd": (8, 32), **layers(2, **parts), "output": (8, 32)}
    numbers = {"block_count": 2, "expert_count": 4, "expert_used_count": 1}
    path = gguf(tmp_path / "moe.gguf", "qwen3moe", numbers, **tensors)
    traffic = known(describe(path, "gguf"))
    dense = 2 * (128 + 32 + 32 + 128 + 32 + 48)
    assert traffic.dense_bytes == 4 * (dense + 256)
    assert traffic.expert_bytes == 4 * 2 * 192
    assert step_bytes(traffic) == traffic.dense_bytes + traffic.expert_bytes // 4
    assert prefill_flops(traffic, prompt_tokens=1) == 2 * (dense + 96 + 256 + 2 * 32)

    del numbers["expert_used_count"]
    unsaid = traffic_of(describe(gguf(path, "qwen3moe", numbers, **tensors), "gguf"))
    assert isinstance(unsaid, str)
    assert "does not say how many a token uses (0 of 4)" in unsaid


def test_every_sixth_layer_of_gemma3_sees_everything(tmp_path: Path) -> None:
    tensors = {"token_embd": (8, 32), **layers(7, **ATTENTION)}
    numbers = {"block_count": 7, "attention.sliding_window": 512}
    path = gguf(tmp_path / "model.gguf", "gemma3", numbers, **tensors)
    assert known(describe(path, "gguf")).attention == (
        Attention(layers=6, kv_values=8, query_values=32, window=512),
        Attention(layers=1, kv_values=8, query_values=32),
    )
    # llama.cpp reads Mistral's window and ignores it.
    path = gguf(path, "llama", numbers, **tensors)
    (attention,) = known(describe(path, "gguf")).attention
    assert (attention.layers, attention.window) == (7, None)


def test_latent_attention_caches_no_values(tmp_path: Path) -> None:
    """DeepSeek-V2's sizes in small: rank 10 and 2 rotated; 2 heads, keys of 6, values of 4."""
    parts: dict[str, Sequence[int]] = {
        "attn_q": (8, 12),
        "attn_kv_a_mqa": (8, 12),
        "attn_k_b": (4, 10, 2),
        "attn_v_b": (10, 4, 2),
        "attn_output": (8, 8),
    }
    tensors = {"token_embd": (8, 32), **layers(1, **parts)}
    path = gguf(tmp_path / "model.gguf", "deepseek2", {"block_count": 1}, **tensors)
    (attention,) = known(describe(path, "gguf")).attention
    assert (attention.kv_values, attention.query_values) == (12, 20)


def test_layers_that_are_not_computed_or_keep_no_keys(tmp_path: Path) -> None:
    tensors = {
        "token_embd": (8, 32),
        **layers(1, ssm_in=(8, 8)),
        **{f"blk__1__{name}": shape for name, shape in ATTENTION.items()},
        "blk__2__nextn__eh_proj": (16, 8),
    }
    numbers = {"block_count": 3, "nextn_predict_layers": 1}
    path = gguf(tmp_path / "model.gguf", "glm4moe", numbers, **tensors)
    traffic = known(describe(path, "gguf"))
    assert traffic.dense_bytes == 4 * (64 + 320 + 256)
    assert traffic.notes == ("the state of 1 of 2 layers, which keep no keys, is not counted",)


def folder(path: Path, config: dict[str, Any], **tensors: tuple[str, Sequence[int], int]) -> Path:
    """A Hugging Face folder; a tensor is (type, shape, bytes)."""
    path.mkdir()
    header, offset = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        place = [offset, offset := offset + size]
        header[name.replace("__", ".")] = {"dtype": dtype, "shape": shape, "data_offsets": place}
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + b"\0" * offset
    (path / "model.safetensors").write_bytes(data)
    (path / "config.json").write_text(json.dumps(config))
    return path


CONFIG = {
    "model_type": "mistral",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
PARTS: dict[str, tuple[str, Sequence[int], int]] = {
    "model__embed_tokens__weight": ("BF16", (32, 8), 512),
    "model__layers__0__mlp__up_proj__weight": ("BF16", (8, 8), 128),
}


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"sliding_window": 9}, [(2, 9)]),
        ({"sliding_window": None}, [(2, None)]),
        ({"sliding_window": 9, "use_sliding_window": False}, [(2, None)]),
        ({"sliding_window": 9, "model_type": "gemma2"}, [(1, 9), (1, None)]),
        (
            {"sliding_window": 9, "layer_types": ["full_attention", "sliding_attention"]},
            [(1, None), (1, 9)],
        ),
        ({"text_config": {"sliding_window": 9}}, [(2, 9)]),
    ],
)
def test_windows_of_a_folder(
    tmp_path: Path, changes: dict[str, Any], windows: list[tuple[int, int | None]]
) -> None:
    traffic = known(describe(folder(tmp_path / "model", CONFIG | changes, **PARTS), "hf"))
    assert [(each.layers, each.window) for each in traffic.attention] == windows
    assert all(each.kv_values == 8 and each.query_values == 16 for each in traffic.attention)


@pytest.mark.parametrize(
    ("changes", "kv_values"),
    [
        ({"model_type": "falcon"}, 4),
        ({"model_type": "falcon", "multi_query": False}, 8),
        ({"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 3}, 12),
        ({"model_type": "gpt_bigcode"}, 4),
    ],
)
def test_heads_that_share_their_keys_by_another_name(
    tmp_path: Path, changes: dict[str, Any], kv_values: int
) -> None:
    """Heads of 2; by Falcon's and GPT-BigCode's configuration classes in transformers."""
    parts = {
        "transformer__word_embeddings__weight": ("BF16", (32, 8), 512),
        "transformer__h__0__mlp__dense_h_to_4h__weight": ("BF16", (8, 8), 128),
        "lm_head__weight": ("BF16", (32, 8), 512),
    }
    traffic = known(describe(folder(tmp_path / "model", CONFIG | changes, **parts), "hf"))
    assert [each.kv_values for each in traffic.attention] == [kv_values]
    assert traffic.dense_bytes == 128 + 512


def test_packed_weights_count_as_they_are_stored(tmp_path: Path) -> None:
    packed = {
        **PARTS,
        "model__layers__0__mlp__up_proj__qweight": ("I32", (1, 8), 32),
        "model__layers__1__self_attn__q_proj__g_idx": ("I32", (8,), 32),
        "vision_tower__layers__0__weight": ("BF16", (8, 8), 128),
        "lm_head__weight": ("BF16", (32, 8), 512),
    }
    traffic = known(describe(folder(tmp_path / "model", CONFIG, **packed), "hf"))
    assert traffic.dense_bytes == 128 + 32 + 32 + 512
    assert (traffic.layer_parameters, traffic.tied) == (None, False)
    assert prefill_flops(traffic, prompt_tokens=8) is None


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    config = {key: value for key, value in CONFIG.items() if key != "num_attention_heads"}
    path = folder(tmp_path / "model", config, **PARTS)
    files = describe(path, "hf")
    assert "field 'num_attention_heads' is missing" in str(traffic_of(files))
    (path / "model.safetensors").unlink()
    assert "no such file" in str(traffic_of(files))
    translator = gguf(tmp_path / "t5.gguf", "t5", {"block_count": 1}, enc__blk__0__attn_q=(8, 8))
    assert "no decoder-only model" in str(traffic_of(describe(translator, "gguf")))
