"""How many weights does the model of a ``config.json`` have, and of which kinds?

Shapes are those that transformers 5.23 makes (``modeling_*.py`` of each type); the types that
:mod:`~pytest_llmperf.models.architecture` lays out are counted from its tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from pytest_llmperf.models import architecture
from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.errors import BrokenModelFile
from pytest_llmperf.models.layers import Layer, Layers, Recurrent
from pytest_llmperf.models.layers_hf import from_zero, language_config, layers_of_config
from pytest_llmperf.models.parameter_parts import (
    Parameters,
    attention,
    gated,
    heads,
    linear,
    norms,
    plain,
    routed,
    scan,
    whole,
)


def parameters_of_config(config: ModelConfig) -> Parameters:
    """Count the weights of the language model that ``config`` describes, exactly.

    Without what it sees and hears with, and without layers that foretell further tokens.

    Raises BrokenModelFile naming a field that is missing or wrong, UnsupportedModel for a
    ``model_type`` whose layers are not known.
    """
    config = language_config(config)
    layers = layers_of_config(config)
    if config.model_type in architecture.MODEL_TYPES:
        return _laid_out(config, layers)
    return _FAMILIES[config.model_type](config, layers)


def _laid_out(config: ModelConfig, layers: Layers) -> Parameters:
    found = Parameters()
    for tensor in architecture.lay_out(config).tensors:
        if tensor.name == "model.embed_tokens.weight":
            tied = tensor.elements if layers.tied else 0
            found += Parameters(embedding=tensor.elements, tied_output=tied)
        elif tensor.name == "lm_head.weight":
            found += Parameters(output=tensor.elements)
        elif len(tensor.shape) > 1:
            found += Parameters(matrices=tensor.elements)
        else:
            found += Parameters(norms_and_biases=tensor.elements)
    if config.model_type == "phi" and config.flag("qk_layernorm", False):
        found += norms(sum(4 * heads(kept).key_length for kept in layers.layers))
    return found


def _mixtral(config: ModelConfig, layers: Layers) -> Parameters:
    _need_experts(config, layers)
    rest = routed(layers, config.count("intermediate_size")) + norms(2 * layers.hidden)
    return whole(layers, (attention(layers, kept) + rest for kept in layers.layers))


def _qwen_moe(config: ModelConfig, layers: Layers) -> Parameters:
    """Qwen's mixtures: some layers may be dense, and some have an expert that always works."""
    sparse = _sparse_layers(config, layers)
    shared = config.model_type != "qwen3_moe"

    def mlp(index: int) -> Parameters:
        if index not in sparse:
            return gated(layers, config.count("intermediate_size"))
        found = routed(layers, config.count("moe_intermediate_size"))
        if shared:
            inner = config.count("shared_expert_intermediate_size")
            found += gated(layers, inner) + linear(layers.hidden, 1)
        return found

    def mixer(kept: Layer) -> Parameters:
        if isinstance(kept, Recurrent):
            return _delta_net(config, layers, kept)
        if config.model_type == "qwen2_moe":
            return attention(layers, kept, bias=config.flag("qkv_bias", True))
        bias = config.flag("attention_bias", False)
        gate = config.model_type == "qwen3_next"
        return attention(layers, kept, bias=bias, output_bias=bias, head_norms=True, gate=gate)

    return whole(
        layers,
        (
            mixer(kept) + mlp(index) + norms(2 * layers.hidden)
            for index, kept in enumerate(layers.layers)
        ),
    )


def _delta_net(config: ModelConfig, layers: Layers, kept: Recurrent) -> Parameters:
    heads, length = config.count("linear_num_value_heads"), config.count("linear_value_head_dim")
    values = heads * length
    inward = linear(layers.hidden, kept.conv_channels + values + 2 * heads)
    small = kept.conv_channels * kept.conv_kernel + 2 * heads + length
    return inward + linear(values, layers.hidden) + norms(small)


def _phi3(config: ModelConfig, layers: Layers) -> Parameters:
    rest = gated(layers, config.count("intermediate_size")) + norms(2 * layers.hidden)
    return whole(layers, (attention(layers, kept) + rest for kept in layers.layers))


def _gemma(config: ModelConfig, layers: Layers) -> Parameters:
    bias, head_norms = config.flag("attention_bias", False), config.model_type != "gemma2"
    rest = gated(layers, config.count("intermediate_size")) + norms(4 * layers.hidden)
    return whole(
        layers,
        (
            attention(layers, kept, bias=bias, output_bias=bias, head_norms=head_norms) + rest
            for kept in layers.layers
        ),
    )


def _gpt_oss(config: ModelConfig, layers: Layers) -> Parameters:
    _need_experts(config, layers)
    assert layers.experts is not None
    inner, bias = config.count("intermediate_size"), config.flag("attention_bias", True)
    biases = layers.experts.total * (1 + 2 * inner + layers.hidden)
    rest = routed(layers, inner) + norms(layers.heads + biases + 2 * layers.hidden)
    return whole(
        layers,
        (attention(layers, kept, bias=bias, output_bias=bias) + rest for kept in layers.layers),
    )


def _deepseek(config: ModelConfig, layers: Layers) -> Parameters:
    first = from_zero(config, "first_k_dense_replace", 0)
    bias, hidden = config.flag("attention_bias", False), layers.hidden
    rank, rope = config.count("kv_lora_rank"), config.count("qk_rope_head_dim")
    nope, value = config.count("qk_nope_head_dim"), config.count("v_head_dim")
    queries = layers.heads * (nope + rope)
    if config.values.get("q_lora_rank", "missing") is None:
        mixer = linear(hidden, queries)
    else:
        narrow = config.count("q_lora_rank")
        mixer = linear(hidden, narrow, bias=bias) + norms(narrow) + linear(narrow, queries)
    mixer += linear(hidden, rank + rope, bias=bias) + norms(rank + 2 * hidden)
    mixer += linear(rank, layers.heads * (nope + value))
    mixer += linear(layers.heads * value, hidden, bias=bias)
    dense = gated(layers, config.count("intermediate_size"))
    if layers.experts is None:
        return whole(layers, (mixer + dense for _ in layers.layers))
    inner = config.count("moe_intermediate_size")
    sparse = routed(layers, inner) + gated(layers, inner * config.count("n_shared_experts"))
    # V3 corrects its router's choice by a number for each expert.
    sparse += norms(layers.experts.total if config.model_type == "deepseek_v3" else 0)
    count = len(layers.layers)
    return whole(layers, (mixer + (dense if at < first else sparse) for at in range(count)))


def _opt(config: ModelConfig, layers: Layers) -> Parameters:
    hidden, bias = layers.hidden, config.flag("enable_bias", True)
    norm = 2 * hidden if config.flag("layer_norm_elementwise_affine", True) else 0
    narrow = config.count("word_embed_proj_dim", hidden)
    found = whole(msgspec.structs.replace(layers, hidden=narrow), (), norms=0)
    # Positions are counted from 2 on, and the table keeps the two rows.
    found += Parameters(embedding=(config.count("max_position_embeddings") + 2) * hidden)
    if narrow != hidden:
        found += linear(narrow, hidden) + linear(hidden, narrow)
    if config.flag("do_layer_norm_before", True) and not config.flag(
        "_remove_final_layer_norm", False
    ):
        found += norms(norm)
    mlp = plain(layers, config.count("ffn_dim"), bias=bias) + norms(2 * norm)
    return sum(
        (attention(layers, kept, bias=bias, output_bias=bias) + mlp for kept in layers.layers),
        found,
    )


def _gpt2(config: ModelConfig, layers: Layers) -> Parameters:
    if layers.max_context is None:
        layers = msgspec.structs.replace(layers, max_context=config.count("n_positions"))
    assert layers.max_context is not None
    mlp = plain(layers, config.count("n_inner", 4 * layers.hidden), bias=True)
    rest = mlp + norms(4 * layers.hidden)
    return whole(
        layers,
        (attention(layers, kept, bias=True, output_bias=True) + rest for kept in layers.layers),
        norms=2,
    ) + Parameters(embedding=layers.max_context * layers.hidden)


def _falcon(config: ModelConfig, layers: Layers) -> Parameters:
    bias = config.flag("bias", False)
    two = 2 if config.flag("new_decoder_architecture", False) else 1
    parallel = config.flag("parallel_attn", True)
    count = 2 if not parallel or config.count("num_ln_in_parallel_attn", two) == 2 else 1
    mlp = plain(layers, config.count("ffn_hidden_size", 4 * layers.hidden), bias=bias)
    rest = mlp + norms(2 * layers.hidden * count)
    return whole(
        layers,
        (attention(layers, kept, bias=bias, output_bias=bias) + rest for kept in layers.layers),
        norms=2,
    )


def _bloom(_: ModelConfig, layers: Layers) -> Parameters:
    rest = plain(layers, 4 * layers.hidden, bias=True) + norms(4 * layers.hidden)
    return whole(
        layers,
        (attention(layers, kept, bias=True, output_bias=True) + rest for kept in layers.layers),
        norms=4,
    )


def _mamba(config: ModelConfig, layers: Layers) -> Parameters:
    rank = _time_step_rank(config, layers, "time_step_rank")
    bias, conv_bias = config.flag("use_bias", False), config.flag("use_conv_bias", True)
    return whole(
        layers,
        (
            scan(layers, kept, rank=rank, bias=bias, conv_bias=conv_bias) + norms(layers.hidden)
            for kept in layers.layers
            if isinstance(kept, Recurrent)
        ),
    )


def _jamba(config: ModelConfig, layers: Layers) -> Parameters:
    rank = _time_step_rank(config, layers, "mamba_dt_rank")
    bias, conv_bias = config.flag("mamba_proj_bias", False), config.flag("mamba_conv_bias", True)
    inner = config.count("intermediate_size")
    period = config.count("expert_layer_period") if layers.experts else 0
    offset = from_zero(config, "expert_layer_offset") if layers.experts else 0

    def layer(index: int, kept: Layer) -> Parameters:
        if isinstance(kept, Recurrent):
            found = scan(layers, kept, rank=rank, bias=bias, conv_bias=conv_bias)
            found += norms(rank + 2 * (kept.state_elements // kept.conv_channels))
        else:
            found = attention(layers, kept)
        sparse = period and index % period == offset
        mlp = routed(layers, inner) if sparse else gated(layers, inner)
        return found + mlp + norms(2 * layers.hidden)

    return whole(layers, (layer(index, kept) for index, kept in enumerate(layers.layers)))


def _sparse_layers(config: ModelConfig, layers: Layers) -> set[int]:
    """The layers of a Qwen mixture that have experts."""
    if layers.experts is None:
        return set()
    step, dense = config.count("decoder_sparse_step", 1), config.values.get("mlp_only_layers")
    dense = dense if isinstance(dense, list) else []
    return {
        index
        for index in range(len(layers.layers))
        if index not in dense and (index + 1) % step == 0
    }


def _need_experts(config: ModelConfig, layers: Layers) -> None:
    if layers.experts is None:
        config.count("num_local_experts")
        raise BrokenModelFile(
            f"{config.origin}: field 'num_local_experts' is 1; {config.model_type} has more."
        )


def _time_step_rank(config: ModelConfig, layers: Layers, field: str) -> int:
    if config.values.get(field, "auto") == "auto":
        return math.ceil(layers.hidden / 16)
    return config.count(field)


_FAMILIES: dict[str, Callable[[ModelConfig, Layers], Parameters]] = {
    "bloom": _bloom,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "falcon": _falcon,
    "gemma2": _gemma,
    "gemma3_text": _gemma,
    "gpt2": _gpt2,
    "gpt_bigcode": _gpt2,
    "gpt_oss": _gpt_oss,
    "jamba": _jamba,
    "mamba": _mamba,
    "mixtral": _mixtral,
    "opt": _opt,
    "phi3": _phi3,
    "qwen2_moe": _qwen_moe,
    "qwen3_moe": _qwen_moe,
    "qwen3_next": _qwen_moe,
}
