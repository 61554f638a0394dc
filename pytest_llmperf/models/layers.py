"""What does each layer of a model keep for a sequence, and how much of it does which engine hold?

The facts are those of the model. How many tokens of them are held at a time is the engine's: a
function per engine, each for one layer, so that a caller may put layers on different devices.
"""

from __future__ import annotations

import msgspec

from pytest_llmperf.models.errors import UnknownQuantization, UnsupportedModel
from pytest_llmperf.models.tensor_types import GGML_TYPES, BlockType

MOST_LAYERS = 10_000
"""More is a broken file: the deepest published models have some hundreds."""

_CACHE_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL")
_BLOCKS = {each.name: each for each in GGML_TYPES.values() if each.name in _CACHE_TYPES}
_CELLS = 256  # llama.cpp rounds the cells of a sequence up to whole groups of so many
_STATE_BYTES = 4  # recurrent states are kept in F32, whatever the type of the rest


class _Heads(msgspec.Struct, frozen=True):
    """Keys and values apart, of a number of heads."""

    kv_heads: int
    key_length: int
    """Numbers in one head's key."""
    value_length: int

    @property
    def key_row(self) -> int:
        """Numbers of one token's keys."""
        return self.kv_heads * self.key_length

    @property
    def value_row(self) -> int:
        """Numbers of one token's values."""
        return self.kv_heads * self.value_length


class FullAttention(_Heads, frozen=True):
    """Keys and values of every token."""

    repeated_heads: int = 0
    """So many heads where transformers repeats keys for the queries before it caches them."""


class SlidingAttention(_Heads, frozen=True):
    """Keys and values of the last ``window`` tokens, the newest included."""

    window: int


class LatentAttention(msgspec.Struct, frozen=True):
    """One compressed vector for keys and values together (MLA; DeepSeek-V2, arXiv 2405.04434)."""

    rank: int
    rope_length: int
    """Numbers of the rotated key that all heads share."""
    whole: FullAttention | None = None
    """What an engine keeps that expands keys and values first."""

    @property
    def key_row(self) -> int:
        """Numbers of one token."""
        return self.rank + self.rope_length

    @property
    def value_row(self) -> int:
        """None: values are read out of the keys."""
        return 0


class Recurrent(msgspec.Struct, frozen=True):
    """A state of constant size: Mamba, gated delta net."""

    conv_channels: int
    conv_kernel: int
    """Tokens that the convolution sees, the newest included."""
    state_elements: int

    @property
    def conv_elements(self) -> int:
        """The tokens before the newest, which is all that must be kept."""
        return (self.conv_kernel - 1) * self.conv_channels


class Nothing(msgspec.Struct, frozen=True):
    """A layer that keeps nothing."""


Layer = FullAttention | SlidingAttention | LatentAttention | Recurrent | Nothing


class Experts(msgspec.Struct, frozen=True):
    """Routed experts of one layer."""

    total: int
    active: int
    """So many of them work for one token."""


class Layers(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a model that its footprint follows from."""

    hidden: int
    vocab: int
    heads: int
    """Query heads of an attention layer, the most of any; 0: no layer has attention."""
    layers: tuple[Layer, ...]
    max_context: int | None
    """The longest context the model was made for, in tokens."""
    tied: bool
    """Whether the embedding table is the output matrix as well."""
    experts: Experts | None = None


class LlamaContext(msgspec.Struct, frozen=True, kw_only=True):
    """How a llama.cpp context is made, by the names of its parameters."""

    context_tokens: int
    """n_ctx: of all sequences together."""
    sequences: int = 1
    """n_seq_max"""
    unified: bool = False
    """kv_unified: the sequences share all cells."""
    ubatch_tokens: int = 512
    """n_ubatch"""
    swa_full: bool = False
    """swa_full: layers with a window keep all tokens. llama.cpp's own default is true."""
    key_type: str = "f16"
    """type_k"""
    value_type: str = "f16"
    """type_v"""


def cache_elements(layer: Layer, context_tokens: int) -> int:
    """Numbers that one sequence of ``context_tokens`` tokens needs kept, by the model's definition.

    Attention: tokens in view × (a token's keys + values); a window ends the view. Recurrent: the
    same at any length. This is the least; what engines hold are the functions below.
    """
    match layer:
        case FullAttention() | LatentAttention():
            return context_tokens * (layer.key_row + layer.value_row)
        case SlidingAttention():
            return min(context_tokens, layer.window) * (layer.key_row + layer.value_row)
        case Recurrent():
            return layer.conv_elements + layer.state_elements
        case Nothing():
            return 0


def transformers_bytes(
    layer: Layer,
    tokens: int,
    *,
    prompt_tokens: int = 0,
    element_bytes: float = 2.0,
    latent: bool = True,
) -> int:
    """Bytes that transformers holds for one sequence that has grown to ``tokens``, at the most.

    Prompt included, read in one piece of ``prompt_tokens``: a layer with a window then holds all
    of it until the next step, min(tokens, window) from there on. Every step writes a new copy of
    a layer's cache before the old one goes, which comes on top for one layer at a time.
    ``latent`` False: a version that expands MLA's keys before it caches them. A convolution keeps
    the newest token too; states are in float32. Source: ``DynamicCache`` in ``cache_utils.py`` of
    transformers 5.23, ``LinearAttentionLayer`` there, ``modeling_falcon.py`` for its heads.
    """
    match layer:
        case FullAttention(repeated_heads=heads) if heads:
            elements = tokens * heads * (layer.key_length + layer.value_length)
        case LatentAttention(whole=FullAttention() as whole) if not latent:
            elements = cache_elements(whole, tokens)
        case SlidingAttention():
            held = max(prompt_tokens, min(tokens, layer.window))
            elements = held * (layer.key_row + layer.value_row)
        case Recurrent():
            columns = layer.conv_kernel * layer.conv_channels
            return round(columns * element_bytes) + layer.state_elements * _STATE_BYTES
        case _:
            elements = cache_elements(layer, tokens)
    return round(elements * element_bytes)


def vllm_bytes(
    layer: Layer, tokens: int, *, block_tokens: int = 16, element_bytes: float = 2.0
) -> int:
    """Bytes of vLLM's blocks that one sequence of ``tokens`` fills.

    Whole blocks for every attention layer, those with a window too, as where layers of several
    kinds share a block table. Source: ``vllm/v1/kv_cache_interface.py`` (``page_size_bytes``).
    """
    if isinstance(layer, Recurrent | Nothing):
        return round(cache_elements(layer, tokens) * element_bytes)
    rounded = _up(tokens, block_tokens)
    return round(rounded * (layer.key_row + layer.value_row) * element_bytes)


def llama_cpp_cells(layer: Layer, context: LlamaContext) -> int:
    """Cells, one token each, that llama.cpp sets apart for the layer, for all sequences together.

    n_ctx, or of a layer with a window min(n_ctx, window × (sequences if unified else 1) +
    n_ubatch), per stream and rounded up to 256. Source: llama.cpp's ``llama-context.cpp``
    (``n_ctx_seq``) and the constructor in ``llama-kv-cache-iswa.cpp``.
    """
    if isinstance(layer, Recurrent | Nothing):
        return 0
    streams = 1 if context.unified else context.sequences
    per_stream = _up(_up(context.context_tokens, _CELLS) // streams, _CELLS)
    if isinstance(layer, SlidingAttention) and not context.swa_full:
        sharing = context.sequences if context.unified else 1
        seen = layer.window * sharing + context.ubatch_tokens
        per_stream = _up(min(per_stream, seen), _CELLS)
    return per_stream * streams


def llama_cpp_bytes(layer: Layer, context: LlamaContext) -> int:
    """Bytes that llama.cpp sets apart for the layer, for all sequences together.

    cells × (row of keys + row of values), in the blocks of the cache's types; states in F32, once
    per sequence. Source: the constructors in ``llama-kv-cache.cpp`` (no values under MLA) and
    ``llama-memory-recurrent.cpp``, ``llama_hparams::n_embd_r`` and ``n_embd_s``.

    Raises UnknownQuantization for a type that is none of a cache, UnsupportedModel where
    llama.cpp would refuse the type: its blocks do not divide a head, or MLA's one row has two.
    """
    if isinstance(layer, Recurrent):
        elements = layer.conv_elements + layer.state_elements
        return context.sequences * elements * _STATE_BYTES
    if isinstance(layer, Nothing):
        return 0
    if isinstance(layer, LatentAttention):
        if cache_type(context.key_type) != cache_type(context.value_type):
            raise UnsupportedModel(
                "llama.cpp keeps keys and values of this model as one: give them the same type, "
                f"not {context.key_type} and {context.value_type}."
            )
        row = _row_bytes(context.key_type, layer.key_row, layer.key_row)
    else:
        row = _row_bytes(context.key_type, layer.key_row, layer.key_length)
        row += _row_bytes(context.value_type, layer.value_row, layer.value_length)
    return llama_cpp_cells(layer, context) * row


def cache_type(name: str) -> BlockType:
    """The block type of a llama.cpp cache, by its name in any case: f16, q8_0.

    Raises UnknownQuantization.
    """
    found = _BLOCKS.get(name.upper())
    if found is None:
        known = ", ".join(each.lower() for each in _CACHE_TYPES)
        raise UnknownQuantization(
            f"no type of a key-value cache is called {name!r}. Known: {known}."
        )
    return found


def _row_bytes(type_name: str, numbers: int, head_length: int) -> int:
    block = cache_type(type_name)
    if head_length % block.elements:
        raise UnsupportedModel(
            f"llama.cpp keeps no cache of type {type_name} for this model: its blocks of "
            f"{block.elements} do not divide a head of {head_length}. Use f16."
        )
    return numbers // block.elements * block.bytes


def _up(count: int, group: int) -> int:
    return -(-count // group) * group
