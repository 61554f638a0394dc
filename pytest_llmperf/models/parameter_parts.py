"""Which weights do the parts bring that models are made of?"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pytest_llmperf.models.layers import (
    FullAttention,
    Layer,
    Layers,
    Recurrent,
    SlidingAttention,
)


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Weights by what happens to them: looked up, multiplied, quantized or left as they are."""

    embedding: int = 0
    """Tables of tokens and of positions."""
    output: int = 0
    """0 when the embedding table is the output matrix."""
    matrices: int = 0
    """All layers' matrices, routers and shared experts among them."""
    norms_and_biases: int = 0
    """And what else quantizers leave alone: convolutions, decays, attention sinks."""
    experts: int = 0
    """All routed experts' matrices, of which a token uses some."""
    tied_output: int = 0
    """Elements of ``embedding`` that are the output matrix as well."""

    @property
    def total(self) -> int:
        """All weights, a tied table once."""
        return self.embedding + self.output + self.matrices + self.norms_and_biases + self.experts

    @property
    def total_untied(self) -> int:
        """All weights with a tied table twice, as some published files store and count it."""
        return self.total + self.tied_output

    def __add__(self, other: Parameters) -> Parameters:
        return Parameters(
            **{field: getattr(self, field) + getattr(other, field) for field in _FIELDS}
        )


_FIELDS = Parameters.__struct_fields__


def whole(layers: Layers, parts: Iterable[Parameters], *, norms: int = 1) -> Parameters:
    """Embeddings, output and so many norms of the model's width around its layers."""
    table = layers.vocab * layers.hidden
    around = Parameters(
        embedding=table,
        output=0 if layers.tied else table,
        tied_output=table if layers.tied else 0,
        norms_and_biases=norms * layers.hidden,
    )
    return sum(parts, around)


def linear(inputs: int, outputs: int, *, bias: bool = False) -> Parameters:
    """One matrix."""
    return Parameters(matrices=inputs * outputs, norms_and_biases=outputs if bias else 0)


def norms(elements: int) -> Parameters:
    """So many numbers that are no matrix."""
    return Parameters(norms_and_biases=elements)


def gated(layers: Layers, inner: int) -> Parameters:
    """An MLP of gate, up and down."""
    return Parameters(matrices=3 * layers.hidden * inner)


def plain(layers: Layers, inner: int, *, bias: bool) -> Parameters:
    """An MLP of two matrices."""
    there = linear(layers.hidden, inner, bias=bias)
    return there + linear(inner, layers.hidden, bias=bias)


def heads(kept: Layer) -> FullAttention | SlidingAttention:
    """The layer's heads, of a model of which every such layer has them."""
    assert isinstance(kept, FullAttention | SlidingAttention)
    return kept


def attention(
    layers: Layers,
    kept: Layer,
    *,
    bias: bool = False,
    output_bias: bool = False,
    head_norms: bool = False,
    gate: bool = False,
) -> Parameters:
    """Queries, keys, values and the way back; ``gate``: queries bring a gate of their size."""
    sizes = heads(kept)
    queries = layers.heads * sizes.key_length * (2 if gate else 1)
    inward = linear(layers.hidden, queries + sizes.key_row + sizes.value_row, bias=bias)
    outward = linear(layers.heads * sizes.value_length, layers.hidden, bias=output_bias)
    return inward + outward + norms(2 * sizes.key_length if head_norms else 0)


def routed(layers: Layers, inner: int) -> Parameters:
    """A router and the experts that it chooses from."""
    assert layers.experts is not None
    experts = layers.experts.total
    return Parameters(matrices=layers.hidden * experts, experts=experts * 3 * layers.hidden * inner)


def scan(
    layers: Layers,
    kept: Recurrent,
    *,
    rank: int,
    bias: bool,
    conv_bias: bool,
) -> Parameters:
    """A Mamba mixer: in, convolution, the selective scan's own inputs, out."""
    inner, state = kept.conv_channels, kept.state_elements // kept.conv_channels
    small = inner * (kept.conv_kernel + conv_bias) + kept.state_elements + inner
    found = linear(layers.hidden, 2 * inner, bias=bias) + linear(inner, rank + 2 * state)
    found += linear(rank, inner, bias=True) + linear(inner, layers.hidden, bias=bias)
    return found + norms(small)
