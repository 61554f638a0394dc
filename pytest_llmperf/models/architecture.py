"""Which tensors does a model of a given config have, and what are they called in each format?

For the architectures that we write ourselves, in both formats and without any engine. Names and
metadata follow llama.cpp's ``convert_hf_to_gguf`` (``conversion/llama.py``, ``qwen.py``,
``phi.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.errors import UnsupportedModel
from pytest_llmperf.models.tokenizer import EOS_ID

Init = Literal["normal", "constant", "small"]


_SHARPNESS = 2.0
"""Gain of queries and keys. With 1, attention is nearly an average, the same at every step, and
greedy decoding repeats one token; with 2, 128 greedy tokens hold more than 100 different ones."""


class Tensor(msgspec.Struct, frozen=True):
    """One tensor of a model, the same in both formats but for name and row order."""

    name: str
    """Its name at Hugging Face, which also seeds its random numbers."""
    gguf_name: str
    shape: tuple[int, ...]
    """(rows, columns) or (length,); columns are the inputs of a matrix."""
    init: Init = "normal"
    """``normal``: deviation gain/√columns. ``constant``: all gain. ``small``: a bias."""
    gain: float = 1.0
    heads: int = 0
    """Above 0, llama.cpp wants each of this many heads' rows paired for its rotary embedding."""
    zero_row: int | None = None
    """A row that is zero: the end-of-text token's, so that greedy decoding never ends by itself."""

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)


class Architecture(msgspec.Struct, frozen=True):
    """A model's tensors and what a GGUF header says about them."""

    gguf_name: str
    tensors: tuple[Tensor, ...]
    metadata: dict[str, int | float | str]
    """GGUF metadata, keys without the architecture's prefix."""
    rope_factors: tuple[float, ...]
    """Llama 3's divisors of the rotary frequencies; empty for plain rotation."""
    gguf_obstacle: str
    """Why llama.cpp cannot run it; empty when it can."""

    @property
    def parameters(self) -> int:
        """How many weights the model has; tied embeddings count once."""
        return sum(tensor.elements for tensor in self.tensors)


def lay_out(config: ModelConfig) -> Architecture:
    """Return the tensors of a model whose ``model_type`` is among :data:`MODEL_TYPES`.

    Raises BrokenModelFile naming a missing field, UnsupportedModel for any other model type.
    """
    if config.model_type not in MODEL_TYPES:
        raise UnsupportedModel(
            f"{config.origin}: model_type {config.model_type!r} cannot be written as GGUF here. "
            f"Supported: {', '.join(MODEL_TYPES)}. Use format hf for it, or a real GGUF file."
        )
    return MODEL_TYPES[config.model_type](config)


class _Shape(msgspec.Struct, frozen=True):
    """The sizes that all supported architectures share."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool

    @classmethod
    def of(cls, config: ModelConfig) -> _Shape:
        hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
        kv_heads = config.count("num_key_value_heads", heads)
        if heads % kv_heads:
            raise UnsupportedModel(
                f"{config.origin}: {heads} attention heads cannot share {kv_heads} key heads."
            )
        return cls(
            hidden=hidden,
            inner=config.count("intermediate_size"),
            layers=config.count("num_hidden_layers"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=config.count("head_dim", hidden // heads),
            vocab=config.count("vocab_size"),
            tied=config.flag("tie_word_embeddings", False),
        )


def _llama(config: ModelConfig) -> Architecture:
    shape = _Shape.of(config)
    attention_bias = config.flag("attention_bias", False)
    return _gated(
        "llama",
        config,
        shape,
        biases=("q", "k", "v", "o") if attention_bias else (),
        mlp_bias=config.flag("mlp_bias", False),
        paired=True,
    )


def _mistral(config: ModelConfig) -> Architecture:
    return _gated("llama", config, _Shape.of(config), paired=True)


def _qwen2(config: ModelConfig) -> Architecture:
    return _gated("qwen2", config, _Shape.of(config), biases=("q", "k", "v"))


def _qwen3(config: ModelConfig) -> Architecture:
    # Qwen3's key size is its own field, whose default does not follow from the others.
    shape = msgspec.structs.replace(_Shape.of(config), head_dim=config.count("head_dim", 128))
    biases = ("q", "k", "v", "o") if config.flag("attention_bias", False) else ()
    return _gated("qwen3", config, shape, biases=biases, head_norms=True)


def _gated(  # noqa: PLR0913 - the five ways in which these architectures differ, each named
    gguf_name: str,
    config: ModelConfig,
    shape: _Shape,
    *,
    biases: tuple[str, ...] = (),
    mlp_bias: bool = False,
    paired: bool = False,
    head_norms: bool = False,
) -> Architecture:
    """Lay out a model of RMS norms, gated MLPs and full rotary attention."""

    def layer(index: int) -> Iterator[Tensor]:
        here, there = f"model.layers.{index}", f"blk.{index}"
        wide = {"q": shape.heads, "k": shape.kv_heads, "v": shape.kv_heads}
        yield from _norm(f"{here}.input_layernorm", f"{there}.attn_norm", shape.hidden)
        for letter, heads in wide.items():
            yield from _linear(
                f"{here}.self_attn.{letter}_proj",
                f"{there}.attn_{letter}",
                (heads * shape.head_dim, shape.hidden),
                bias=letter in biases,
                heads=heads if paired and letter != "v" else 0,
                gain=1.0 if letter == "v" or head_norms else _SHARPNESS,
            )
            if head_norms and letter != "v":
                yield Tensor(
                    f"{here}.self_attn.{letter}_norm.weight",
                    f"{there}.attn_{letter}_norm.weight",
                    (shape.head_dim,),
                    "constant",
                    gain=_SHARPNESS,
                )
        yield from _linear(
            f"{here}.self_attn.o_proj",
            f"{there}.attn_output",
            (shape.hidden, shape.heads * shape.head_dim),
            bias="o" in biases,
        )
        yield from _norm(f"{here}.post_attention_layernorm", f"{there}.ffn_norm", shape.hidden)
        for name in ("gate", "up", "down"):
            sizes = (shape.hidden, shape.inner) if name == "down" else (shape.inner, shape.hidden)
            yield from _linear(
                f"{here}.mlp.{name}_proj", f"{there}.ffn_{name}", sizes, bias=mlp_bias
            )

    rope = config.rope()
    metadata = _metadata(config, shape) | {
        "attention.layer_norm_rms_epsilon": config.number("rms_norm_eps", 1e-6),
        "attention.key_length": shape.head_dim,
        "attention.value_length": shape.head_dim,
        "rope.dimension_count": shape.head_dim,
    }
    if rope.text("rope_type") == "linear":
        metadata |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope.number("factor", 1)}
    return Architecture(
        gguf_name,
        tuple(_whole(shape, layer, "model.norm", norm_bias=False, head_bias=False)),
        metadata,
        _llama3_factors(rope, shape.head_dim) if gguf_name == "llama" else (),
        _gated_obstacle(gguf_name, config, shape),
    )


def _gated_obstacle(gguf_name: str, config: ModelConfig, shape: _Shape) -> str:
    rope_type = config.rope().text("rope_type")
    if rope_type not in ("default", "linear") and (gguf_name, rope_type) != ("llama", "llama3"):
        return f"rotary scaling {rope_type!r} is not translated"
    if config.values.get("hidden_act", "silu") != "silu":
        return f"its activation is {config.values['hidden_act']!r}, and llama.cpp uses silu"
    if config.flag("use_sliding_window", False):
        return "llama.cpp ignores its sliding window"
    if gguf_name == "qwen2" and shape.head_dim * shape.heads != shape.hidden:
        return f"llama.cpp's qwen2 has no separate head_dim (it is {shape.head_dim})"
    return ""


def _phi(config: ModelConfig) -> Architecture:
    shape = _Shape.of(config)

    def layer(index: int) -> Iterator[Tensor]:
        here, there = f"model.layers.{index}", f"blk.{index}"
        norm = f"{here}.input_layernorm", f"{there}.attn_norm"
        yield from _norm(*norm, shape.hidden, bias=True)
        for name, gguf_name, sizes in (
            ("self_attn.q_proj", "attn_q", (shape.heads * shape.head_dim, shape.hidden)),
            ("self_attn.k_proj", "attn_k", (shape.kv_heads * shape.head_dim, shape.hidden)),
            ("self_attn.v_proj", "attn_v", (shape.kv_heads * shape.head_dim, shape.hidden)),
            ("self_attn.dense", "attn_output", (shape.hidden, shape.heads * shape.head_dim)),
            ("mlp.fc1", "ffn_up", (shape.inner, shape.hidden)),
            ("mlp.fc2", "ffn_down", (shape.hidden, shape.inner)),
        ):
            gain = _SHARPNESS if gguf_name in ("attn_q", "attn_k") else 1.0
            yield from _linear(
                f"{here}.{name}", f"{there}.{gguf_name}", sizes, bias=True, gain=gain
            )

    rope = config.rope()
    metadata = _metadata(config, shape) | {
        "attention.layer_norm_epsilon": config.number("layer_norm_eps", 1e-5),
        "rope.dimension_count": int(rope.number("partial_rotary_factor", 0.5) * shape.head_dim),
    }
    obstacle = ""
    if config.flag("qk_layernorm", False):
        obstacle = "llama.cpp's phi2 has no query and key norms"
    elif shape.tied:
        obstacle = "llama.cpp's phi2 has no tied embeddings"
    elif rope.text("rope_type") != "default":
        obstacle = f"rotary scaling {rope.text('rope_type')!r} is not translated"
    elif config.values.get("hidden_act", "gelu_new") not in ("gelu_new", "gelu_pytorch_tanh"):
        obstacle = f"its activation is {config.values['hidden_act']!r}, and llama.cpp uses gelu_new"
    tensors = _whole(shape, layer, "model.final_layernorm", norm_bias=True, head_bias=True)
    return Architecture("phi2", tuple(tensors), metadata, (), obstacle)


def _whole(
    shape: _Shape,
    layer: Callable[[int], Iterator[Tensor]],
    final_norm: str,
    *,
    norm_bias: bool,
    head_bias: bool,
) -> Iterator[Tensor]:
    """Yield embeddings, layers, the last norm and the output matrix."""
    table = (shape.vocab, shape.hidden)
    silent = EOS_ID if shape.tied else None
    yield Tensor("model.embed_tokens.weight", "token_embd.weight", table, zero_row=silent)
    for index in range(shape.layers):
        yield from layer(index)
    yield from _norm(final_norm, "output_norm", shape.hidden, bias=norm_bias)
    if not shape.tied:
        yield Tensor("lm_head.weight", "output.weight", table, zero_row=EOS_ID)
    if head_bias:
        yield Tensor("lm_head.bias", "output.bias", (shape.vocab,), "small")


def _norm(name: str, gguf_name: str, length: int, *, bias: bool = False) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", f"{gguf_name}.weight", (length,), "constant")
    if bias:
        yield Tensor(f"{name}.bias", f"{gguf_name}.bias", (length,), "small")


def _linear(
    name: str,
    gguf_name: str,
    sizes: tuple[int, int],
    *,
    bias: bool = False,
    heads: int = 0,
    gain: float = 1.0,
) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", f"{gguf_name}.weight", sizes, heads=heads, gain=gain)
    if bias:
        yield Tensor(f"{name}.bias", f"{gguf_name}.bias", sizes[:1], "small", heads=heads)


def _metadata(config: ModelConfig, shape: _Shape) -> dict[str, int | float | str]:
    return {
        "context_length": config.count("max_position_embeddings", 2048),
        "embedding_length": shape.hidden,
        "block_count": shape.layers,
        "feed_forward_length": shape.inner,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "vocab_size": shape.vocab,
        "rope.freq_base": config.rope().number("rope_theta", 10000.0),
    }


def _llama3_factors(rope: ModelConfig, head_dim: int) -> tuple[float, ...]:
    """Return the divisor of each rotary frequency, as Llama 3.1's config describes them."""
    if rope.text("rope_type") != "llama3":
        return ()
    base, factor = rope.number("rope_theta", 10000.0), rope.number("factor", 8.0)
    low, high = rope.number("low_freq_factor", 1.0), rope.number("high_freq_factor", 4.0)
    trained = rope.count("original_max_position_embeddings", 8192)

    def divisor(index: int) -> float:
        turns = trained * math.pow(base, -2 * index / head_dim) / (2 * math.pi)
        if turns > high:
            return 1.0
        if turns < low:
            return factor
        smooth = (turns - low) / (high - low)
        return 1 / ((1 - smooth) / factor + smooth)

    return tuple(divisor(index) for index in range(head_dim // 2))


MODEL_TYPES: dict[str, Callable[[ModelConfig], Architecture]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "phi": _phi,
}
"""The architectures that can be written in both formats, by Hugging Face's ``model_type``."""
