"""Which tensors of a Hugging Face folder does one step read, and how large is its cache?"""

from __future__ import annotations

import re
from pathlib import Path

from pytest_llmperf.models import safetensors
from pytest_llmperf.models.config import ModelConfig, read_config
from pytest_llmperf.models.spec import ModelFiles
from pytest_llmperf.models.step import Attention, Traffic
from pytest_llmperf.models.step_parts import Part, assemble, layer_of, merged, whole

_VOCABULARY = "embed_tokens|word_embeddings|tok_embeddings|wte|embed_in"
_TABLES = re.compile(rf"(^|\.)({_VOCABULARY}|embed_tokens_per_layer|wpe|embed_positions)\.")
_OTHER = re.compile(r"(^|\.)(vision\w*|visual|audio\w*|multi_modal_projector|mtp)\.")
_EXPERTS = re.compile(r"\.experts\.")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.(weight|qweight)$")
_EMBEDDING = re.compile(rf"(^|\.)({_VOCABULARY})\.weight$")
_MATRICES = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_PERIODS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6}
_LATENT = ("kv_lora_rank", "qk_rope_head_dim")


def traffic_of_folder(files: ModelFiles) -> Traffic | str:
    """Read the headers of all safetensors files and the config; a text says what is not told.

    Raises BrokenModelFile or ModelNotHere when the files are no longer what they were.
    """
    folder = Path(files.path)
    config = read_config(folder / "config.json")
    text = config.values.get("text_config")
    config = ModelConfig(config.origin, config.values | (text if isinstance(text, dict) else {}))
    if config.values.get("is_encoder_decoder") is True:
        return f"what a step reads is not known: {files.architecture} is no decoder-only model"
    layers = config.count("num_hidden_layers")
    tensors = [
        tensor
        for tensor in safetensors.read_folder(folder)
        if not _OTHER.search(tensor.name) and layer_of(tensor.name) < layers
    ]
    tied = not any(_HEAD.search(tensor.name) for tensor in tensors)
    packed = any(len(each.shape) > 1 and each.dtype not in _MATRICES for each in tensors)
    parts = []
    for tensor in tensors:
        table = bool(_TABLES.search(tensor.name))
        if table and not (tied and _EMBEDDING.search(tensor.name)):
            continue
        parts.append(
            Part(
                tensor.bytes,
                tensor.elements,
                matrix=len(tensor.shape) > 1,
                experts=bool(_EXPERTS.search(tensor.name)),
                head=table or bool(_HEAD.search(tensor.name)),
            )
        )
    attention, notes = _attention(config, layers)
    return assemble(
        parts,
        experts=_first(config, "num_local_experts", "num_experts", "n_routed_experts"),
        experts_used=_first(config, "num_experts_per_tok", "experts_per_token"),
        attention=attention,
        tied=tied,
        notes=notes,
        packed=packed,
    )


def _attention(config: ModelConfig, layers: int) -> tuple[list[Attention], list[str]]:
    """The layers' attention by the config; packed tensors do not show their shapes."""
    heads = config.count("num_attention_heads")
    kv_heads = _kv_heads(config, heads)
    if all(config.values.get(field) for field in _LATENT):
        cached = config.count("kv_lora_rank") + config.count("qk_rope_head_dim")
        keys = config.count("qk_nope_head_dim") + config.count("qk_rope_head_dim")
        values = config.count("v_head_dim")
    else:
        keys = values = _head_dim(config, heads)
        cached = kv_heads * (keys + values)
    window = config.values.get("sliding_window")
    if not isinstance(window, int) or config.values.get("use_sliding_window") is False:
        window = None
    kinds = config.values.get("layer_types")
    if not isinstance(kinds, list) or len(kinds) != layers:
        kinds = _periodic_kinds(config, layers)
    found = [
        Attention(
            layers=1,
            kv_values=cached,
            query_values=heads * (keys + values),
            window=window if kind == "sliding_attention" else None,
        )
        for kind in kinds
        if kind in ("full_attention", "sliding_attention")
    ]
    others = sorted({str(kind) for kind in kinds} - {"full_attention", "sliding_attention"})
    notes = [f"the cache of its {kind} layers is not counted" for kind in others]
    return merged(found), notes


def _kv_heads(config: ModelConfig, heads: int) -> int:
    """How many heads keep keys; Falcon and GPT-BigCode say it by fields of their own."""
    if config.model_type == "falcon" and config.flag("new_decoder_architecture", False):
        return config.count("num_kv_heads", heads)
    if config.model_type in ("falcon", "gpt_bigcode") and config.flag("multi_query", True):
        return 1
    return config.count("num_key_value_heads", heads)


def _periodic_kinds(config: ModelConfig, layers: int) -> list[str]:
    """Older configs state one window for all layers, or every n-th layer without one."""
    period = _first(config, "sliding_window_pattern") or _PERIODS.get(config.model_type, 0)
    return [
        "full_attention" if period and layer % period == period - 1 else "sliding_attention"
        for layer in range(layers)
    ]


def _head_dim(config: ModelConfig, heads: int) -> int:
    # Qwen3's key size is its own field, whose default does not follow from the others.
    default = 128 if config.model_type.startswith("qwen3") else config.count("hidden_size") // heads
    return config.count("head_dim", default)


def _first(config: ModelConfig, *fields: str) -> int:
    return next((n for field in fields if (n := whole(config.values.get(field)))), 0)
