"""What must one decode step read, and what must the reading of a prompt compute?

The least that the model's definition asks of any engine: every weight of the step once, every
cached key and value once. What an engine reads beyond it (padding of its cache, activations,
a weight read twice) is its own, and shows as bandwidth that was not used.
"""

from __future__ import annotations

import msgspec


class Attention(msgspec.Struct, frozen=True, kw_only=True):
    """A number of layers whose attention has the same sizes."""

    layers: int
    kv_values: int
    """Numbers cached per token and layer: kv_heads × (key_length + value_length)."""
    query_values: int
    """Per token and layer, heads × (key_length + value_length)."""
    window: int | None = None
    """A token sees this many tokens at most, itself included; None: all before it."""


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """A model's tensors by what a step does with them, in bytes as they are stored."""

    dense_bytes: int
    """Read in every step: layers, norms, output head. Rows of embedding tables are not."""
    expert_bytes: int = 0
    """All routed experts, of which a token uses some."""
    experts: int = 0
    """Routed experts of one layer; 0: none."""
    experts_used: int = 0
    """Routed experts that one token uses in one layer."""
    attention: tuple[Attention, ...] = ()
    layer_parameters: int | None
    """Elements of the matrices that every token passes; None: packed, the file does not tell."""
    expert_parameters: int = 0
    """Elements of all routed experts' matrices."""
    head_parameters: int = 0
    """Elements of the output head, which a prompt needs for its last token only."""
    bits_per_weight: float
    """Of what a step reads and of all experts."""
    tied: bool
    """Whether the embedding table is the output head as well."""
    notes: tuple[str, ...] = ()
    """What could not be told, or is left out."""


def distinct_experts(traffic: Traffic, tokens: float) -> float:
    """How many of a layer's E experts ``tokens`` tokens use: E·(1 − (1 − k/E)^tokens).

    The expectation if every token chooses its k experts independently and evenly.
    """
    if not traffic.experts:
        return 0.0
    unused = 1 - traffic.experts_used / traffic.experts
    return float(traffic.experts * (1 - unused**tokens))


def weight_bytes(traffic: Traffic, batch: int = 1) -> float:
    """Bytes of weights that one step of ``batch`` sequences reads."""
    if not traffic.experts:
        return float(traffic.dense_bytes)
    share = distinct_experts(traffic, batch) / traffic.experts
    return traffic.dense_bytes + traffic.expert_bytes * share


def kv_values(traffic: Traffic, depth_tokens: float) -> float:
    """Cached numbers that a step reads per sequence with ``depth_tokens`` in the cache."""
    return sum(
        each.layers * each.kv_values * _seen(depth_tokens, each.window)
        for each in traffic.attention
    )


def step_bytes(
    traffic: Traffic,
    *,
    batch: int = 1,
    depth_tokens: float = 0,
    kv_element_bytes: float = 2.0,
    weight_scale: float = 1.0,
) -> int:
    """Bytes that one decode step of ``batch`` sequences must read.

    weights(batch) × ``weight_scale`` + batch × cached numbers × ``kv_element_bytes`` (2 for F16,
    34/32 for Q8_0). ``weight_scale``: bytes in memory per byte in the file, where an engine loads
    another type than is stored. Definition: docs/metrics.md, *Decode bytes*.
    """
    weights = weight_bytes(traffic, batch) * weight_scale
    return round(weights + batch * kv_values(traffic, depth_tokens) * kv_element_bytes)


def prefill_flops(
    traffic: Traffic, *, batch: int = 1, prompt_tokens: int, depth: int = 0
) -> float | None:
    """Floating-point operations to read ``batch`` prompts behind ``depth`` tokens each.

    A multiplication and an addition for every matrix element and token, the output head for the
    last token only; and in attention, for query i of a layer, 2 × heads × (key_length +
    value_length) × min(depth + i, window). Source: the count of Kaplan et al. 2020, arXiv
    2001.08361, § 2.1, with the causal mask counted exactly. None for packed weights.
    """
    if traffic.layer_parameters is None:
        return None
    per_token = float(traffic.layer_parameters)
    if traffic.experts:
        per_token += traffic.expert_parameters * traffic.experts_used / traffic.experts
    matrices = 2 * (per_token * prompt_tokens + traffic.head_parameters)
    attention = sum(
        2 * each.layers * each.query_values * _pairs(prompt_tokens, depth, each.window)
        for each in traffic.attention
    )
    return batch * (matrices + attention)


def _seen(depth_tokens: float, window: int | None) -> float:
    return depth_tokens if window is None else min(depth_tokens, window)


def _pairs(prompt_tokens: int, depth: int, window: int | None) -> int:
    """Sum over i = 1 … prompt_tokens of min(depth + i, window)."""
    if window is None:
        return prompt_tokens * depth + prompt_tokens * (prompt_tokens + 1) // 2
    growing = max(0, min(prompt_tokens, window - depth))
    return growing * depth + growing * (growing + 1) // 2 + (prompt_tokens - growing) * window
