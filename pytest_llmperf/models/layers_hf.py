"""Which layers does the model of a ``config.json`` have?

Fields and their defaults are those of transformers 5.23's ``configuration_*.py``. A default is
taken only where published configs rely on it; every other field that is needed must be there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.errors import BrokenModelFile, UnsupportedModel
from pytest_llmperf.models.layers import (
    MOST_LAYERS,
    Experts,
    FullAttention,
    LatentAttention,
    Layer,
    Layers,
    Recurrent,
    SlidingAttention,
)

FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"

_TIED = {"tie_word_embeddings": True}
_GEMMA = _TIED | {"head_dim": 256, "sliding_window": 4096}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "bloom": _TIED,
    "falcon": _TIED,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA
    | {
        "vocab_size": 262_208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131_072,
    },
    "gpt2": _TIED,
    "gpt_bigcode": _TIED,
    "gpt_oss": {"head_dim": 64, "sliding_window": 128},
    "mamba": _TIED,
    "mistral": {"sliding_window": 4096},
    "opt": _TIED,
    "qwen3": {"head_dim": 128},
    "qwen3_next": {"head_dim": 256},
}
_GPT2_NAMES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd",),
    "num_hidden_layers": ("n_layer",),
    "num_attention_heads": ("n_head",),
    "max_position_embeddings": ("n_positions",),
}
_OWN_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "gpt2": _GPT2_NAMES,
    "gpt_bigcode": _GPT2_NAMES,
    "bloom": {
        "hidden_size": ("hidden_size", "n_embed"),
        "num_hidden_layers": ("n_layer",),
        "num_attention_heads": ("n_head",),
        "max_position_embeddings": ("seq_length",),
    },
    "falcon": {
        "hidden_size": ("hidden_size", "n_embed"),
        "num_hidden_layers": ("num_hidden_layers", "n_layer"),
        "num_attention_heads": ("num_attention_heads", "n_head"),
    },
}
"""A type's own names of the common fields, the current one first."""
_OR_NONE = ("sliding_window", "q_lora_rank")
"""Null in one of these means that there is none; in any other field it stands for the default."""
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def layers_of_config(config: ModelConfig) -> Layers:
    """Return the layers of the language model that ``config`` describes.

    Raises BrokenModelFile naming a field that is missing or wrong, UnsupportedModel for a
    ``model_type`` that is not among :data:`MODEL_TYPES`.
    """
    config = language_config(config)
    if config.model_type not in MODEL_TYPES:
        raise UnsupportedModel(
            f"{config.origin}: what the layers of model_type {config.model_type!r} keep is not "
            f"known here. Known: {', '.join(MODEL_TYPES)}."
        )
    return Layers(
        hidden=_size(config, "hidden_size"),
        vocab=config.count("vocab_size"),
        heads=0 if config.model_type == "mamba" else _size(config, "num_attention_heads"),
        layers=tuple(MODEL_TYPES[config.model_type](config)),
        max_context=_max_context(config),
        tied=config.flag("tie_word_embeddings", False),
        experts=_experts(config),
    )


def language_config(config: ModelConfig) -> ModelConfig:
    """Return the part that describes the language model, with what transformers would default.

    Models that see or hear keep it in a ``text_config``.
    """
    text = config.values.get("text_config")
    values = config.values | (text if isinstance(text, dict) else {})
    kind = values.get("model_type")
    kind = "gemma3_text" if kind == "gemma3" else kind
    given = {
        field: value for field, value in values.items() if value is not None or field in _OR_NONE
    }
    defaults = _DEFAULTS.get(kind, {}) if isinstance(kind, str) else {}
    return ModelConfig(config.origin, defaults | given | {"model_type": kind})


def from_zero(config: ModelConfig, field: str, default: int | None = None) -> int:
    """Return a whole number that may be zero. Raises BrokenModelFile when it is none."""
    value = config.values.get(field, default)
    is_zero = value == 0 and not isinstance(value, bool)
    return 0 if is_zero else config.count(field)


def _attention(config: ModelConfig) -> list[Layer]:
    """Keys and values in every layer, some of them with a window."""
    heads = _size(config, "num_attention_heads")
    kv_heads = _shared(config, "num_key_value_heads", heads)
    length = _head_length(config, heads)
    full = FullAttention(kv_heads, length, length)
    if config.model_type.startswith("qwen") and not config.flag("use_sliding_window", False):
        config = ModelConfig(config.origin, config.values | {"sliding_window": None})
    return [
        SlidingAttention(kv_heads, length, length, config.count("sliding_window"))
        if kind == SLIDING
        else full
        for kind in _kinds(config)
    ]


def _kinds(config: ModelConfig) -> list[str]:
    """Full or sliding, layer by layer, as the config lists them or by its type's own rule."""
    count = _layer_count(config)
    given = config.values.get("layer_types")
    if given is not None:
        known = (FULL, SLIDING, LINEAR)
        listed = isinstance(given, list) and all(kind in known for kind in given)
        if not listed or len(given) != count:
            raise BrokenModelFile(
                f"{config.origin}: field 'layer_types' must list {count} times one of "
                f"{', '.join(known)}."
            )
        return list(given)
    if config.values.get("sliding_window") is None:
        return [FULL] * count
    if config.model_type in ("qwen2", "qwen3"):
        first = from_zero(config, "max_window_layers")
        return [SLIDING if index >= first else FULL for index in range(count)]
    if config.model_type == "qwen2_moe":
        first = from_zero(config, "max_window_layers")
        return [SLIDING if index % 2 == 0 and index < first else FULL for index in range(count)]
    period = {"gemma2": 2, "gemma3_text": 6, "gpt_oss": 2}.get(config.model_type, 0)
    period = config.count("sliding_window_pattern", period) if period else 0
    return [FULL if period and index % period == period - 1 else SLIDING for index in range(count)]


def _latent(config: ModelConfig) -> list[Layer]:
    rope = config.count("qk_rope_head_dim")
    whole = FullAttention(
        _size(config, "num_attention_heads"),
        config.count("qk_nope_head_dim") + rope,
        config.count("v_head_dim"),
    )
    return [LatentAttention(config.count("kv_lora_rank"), rope, whole)] * _layer_count(config)


def _multi_query(config: ModelConfig) -> list[Layer]:
    """One head of keys for all, unless told otherwise; Falcon can have groups as well."""
    heads = _size(config, "num_attention_heads")
    length = _head_length(config, heads)
    grouped = config.flag("new_decoder_architecture", False)
    if grouped or not config.flag("multi_query", True):
        kv_heads = _shared(config, "num_kv_heads", heads)
    else:
        kv_heads = 1
    layer = FullAttention(kv_heads, length, length, heads if grouped else 0)
    return [layer] * _layer_count(config)


def _mamba(config: ModelConfig) -> list[Layer]:
    channels = config.count("expand") * _size(config, "hidden_size")
    state = channels * config.count("state_size")
    return [Recurrent(channels, config.count("conv_kernel"), state)] * _layer_count(config)


def _jamba(config: ModelConfig) -> list[Layer]:
    channels = config.count("mamba_expand") * _size(config, "hidden_size")
    state = channels * config.count("mamba_d_state")
    recurrent = Recurrent(channels, config.count("mamba_d_conv"), state)
    period, offset = config.count("attn_layer_period"), from_zero(config, "attn_layer_offset")
    without = ModelConfig(config.origin, config.values | {"layer_types": None})
    return [
        layer if index % period == offset else recurrent
        for index, layer in enumerate(_attention(without))
    ]


def _qwen3_next(config: ModelConfig) -> list[Layer]:
    key_heads, key = config.count("linear_num_key_heads"), config.count("linear_key_head_dim")
    value_heads = config.count("linear_num_value_heads")
    values = value_heads * config.count("linear_value_head_dim")
    recurrent = Recurrent(
        2 * key_heads * key + values, config.count("linear_conv_kernel_dim"), values * key
    )
    count, period = _layer_count(config), config.count("full_attention_interval", 4)
    regular = [LINEAR if (index + 1) % period else FULL for index in range(count)]
    kinds = _kinds(config) if config.values.get("layer_types") is not None else regular
    attention = _attention(config)
    return [
        recurrent if kind == LINEAR else layer for kind, layer in zip(kinds, attention, strict=True)
    ]


def _experts(config: ModelConfig) -> Experts | None:
    field = next((name for name in _EXPERTS if config.values.get(name) is not None), None)
    if field is None or config.count(field) == 1:
        return None
    total, active = config.count(field), config.count("num_experts_per_tok")
    if active > total:
        raise BrokenModelFile(
            f"{config.origin}: field 'num_experts_per_tok' is {active}, of {total} experts."
        )
    return Experts(total, active)


def _head_length(config: ModelConfig, heads: int) -> int:
    """The field, where there is one; only without it is a head its share of the width."""
    if config.values.get("head_dim") is not None:
        return config.count("head_dim")
    hidden = _size(config, "hidden_size")
    if hidden % heads:
        raise BrokenModelFile(
            f"{config.origin}: field 'head_dim' is missing, and {hidden} numbers do not divide "
            f"into {heads} heads."
        )
    return hidden // heads


def _shared(config: ModelConfig, field: str, heads: int) -> int:
    """Key heads, each for the same number of query heads."""
    found = config.count(field, heads)
    if heads % found:
        raise BrokenModelFile(
            f"{config.origin}: {heads} attention heads cannot share {found} of {field!r}."
        )
    return found


def _layer_count(config: ModelConfig) -> int:
    count = _size(config, "num_hidden_layers")
    if count > MOST_LAYERS:
        raise BrokenModelFile(
            f"{config.origin}: {count} layers; no model has more than {MOST_LAYERS}. "
            "Give the model's config.json."
        )
    return count


def _max_context(config: ModelConfig) -> int | None:
    name = _name(config, "max_position_embeddings")
    return None if config.values.get(name) is None else config.count(name)


def _size(config: ModelConfig, field: str) -> int:
    return config.count(_name(config, field))


def _name(config: ModelConfig, field: str) -> str:
    own = _OWN_NAMES.get(config.model_type, {}).get(field, ())
    names = (*own, field)
    return next((name for name in names if config.values.get(name) is not None), names[0])


MODEL_TYPES: dict[str, Callable[[ModelConfig], list[Layer]]] = {
    "bloom": _attention,
    "deepseek_v2": _latent,
    "deepseek_v3": _latent,
    "falcon": _multi_query,
    "gemma2": _attention,
    "gemma3": _attention,
    "gemma3_text": _attention,
    "gpt2": _attention,
    "gpt_bigcode": _multi_query,
    "gpt_oss": _attention,
    "jamba": _jamba,
    "llama": _attention,
    "mamba": _mamba,
    "mistral": _attention,
    "mixtral": _attention,
    "opt": _attention,
    "phi": _attention,
    "phi3": _attention,
    "qwen2": _attention,
    "qwen2_moe": _attention,
    "qwen3": _attention,
    "qwen3_moe": _attention,
    "qwen3_next": _qwen3_next,
}
"""By Hugging Face's ``model_type``."""
