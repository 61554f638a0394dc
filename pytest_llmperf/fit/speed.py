"""How fast will it be, by what a step reads and what this engine made of such a memory before?

A step's time is that of the bytes which it must read, by the share of the bandwidth that the engine
reaches, and on a CPU that of unpacking and multiplying them, by a share of the matmul rate; a
prompt's is that of its operations. The shares were measured (efficiency.yaml says when and on
what); another machine's may differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources

import msgspec

from pytest_llmperf.models.step import Traffic, kv_values, prefill_flops, step_bytes

GENERAL = "any"


class Efficiency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares that an engine reached, between 0 and 1."""

    decode: float
    """Of the bandwidth, by a step."""
    compute: float | None = None
    """Of the matmul rate, by a step; None: its multiplications cost nothing beside its bytes."""
    cache: float = 1.0
    """Of the bandwidth, by the reading of cached keys and values."""
    prefill: float | None = None
    """Of the matmul rate, by a prompt: mfu; None: not known."""
    layer_us: float = 0.0
    """What a layer costs in a step beside its bytes, in µs."""


PERFECT = Efficiency(decode=1.0, prefill=1.0)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A device, and its share of a model's layers."""

    share: float
    efficiency: Efficiency
    bandwidth: float | None = None
    """Of its memory, in bytes/s; None: not known."""
    flops: float | None = None
    """In floating-point operations/s; None: not known."""


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What one sequence is expected to get; None: not known."""

    decode_tps: float | None = None
    prefill_tps: float | None = None
    is_ceiling: bool = False
    """Whether it is what the memory allows: the engine was not measured on such a device."""


def expected_speed(
    traffic: Traffic,
    parts: Sequence[Part],
    *,
    depth_tokens: int,
    prompt_tokens: int,
    kv_element_bytes: float = 2.0,
) -> Speed:
    """Tokens per second of one sequence: decode behind ``depth_tokens``, and of a prompt.

    The devices work one after the other. Seconds of a step on each: share × (bytes ÷ (bandwidth ×
    efficiency) + operations ÷ (rate × efficiency) + layers × time of a layer); of a prompt: share ×
    operations ÷ (rate × efficiency).
    """
    weights = step_bytes(traffic)
    cached = round(kv_values(traffic, depth_tokens) * kv_element_bytes)
    layers = sum(each.layers for each in traffic.attention)
    step_s = _sum(
        each.share * seconds
        if (seconds := _step_s(each, traffic, weights, cached, layers)) is not None
        else None
        for each in parts
    )
    operations = prefill_flops(traffic, prompt_tokens=prompt_tokens)
    prompt_s = _sum(
        each.share * operations / (each.flops * each.efficiency.prefill)
        if operations and each.flops and each.efficiency.prefill
        else None
        for each in parts
    )
    return Speed(
        decode_tps=1 / step_s if step_s else None,
        prefill_tps=prompt_tokens / prompt_s if prompt_s else None,
        is_ceiling=any(each.efficiency == PERFECT for each in parts),
    )


def _step_s(part: Part, traffic: Traffic, weights: int, cached: int, layers: int) -> float | None:
    """Seconds of a step, were all layers there; None: not known."""
    if part.bandwidth is None:
        return None
    reached = part.efficiency
    seconds = weights / (part.bandwidth * reached.decode)
    seconds += cached / (part.bandwidth * reached.cache)
    if reached.compute is not None:
        operations = prefill_flops(traffic, prompt_tokens=1)
        if part.flops is None or operations is None:
            return None
        seconds += operations / (part.flops * reached.compute)
    return seconds + layers * reached.layer_us / 1e6


def _sum(seconds: Iterable[float | None]) -> float | None:
    """None if one of them is not known."""
    found = list(seconds)
    return sum(each for each in found if each) if all(found) else None


def efficiency_of(engine: str, kind: str, quantization: str) -> Efficiency:
    """What was measured of an engine on a ``cpu`` or ``gpu``; where nothing was, PERFECT.

    Of a quantization that was not measured itself, that of the engine in general.
    """
    measured = _table().get(engine, {}).get(kind, {})
    return measured.get(quantization) or measured.get(GENERAL) or PERFECT


@cache
def _table() -> dict[str, dict[str, dict[str, Efficiency]]]:
    import yaml  # ten milliseconds that only who asks for a speed should pay

    text = resources.files("pytest_llmperf.fit").joinpath("efficiency.yaml").read_text("utf-8")
    return msgspec.convert(yaml.safe_load(text), dict[str, dict[str, dict[str, Efficiency]]])
