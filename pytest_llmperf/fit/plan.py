"""Which quantization and context of a model run where, and how fast?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from pytest_llmperf.fit.engines import PlannedEngine
from pytest_llmperf.fit.footprint import RAM, Interval
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import ModelSize
from pytest_llmperf.fit.placement import Placement, place
from pytest_llmperf.fit.preflight import Fit
from pytest_llmperf.fit.room import Room
from pytest_llmperf.fit.speed import Part, Speed, efficiency_of, expected_speed
from pytest_llmperf.models.layers import cache_type


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a quantization with a context, in a room. Sizes in bytes."""

    quantization: str
    context_tokens: int
    """Of each sequence."""
    sequences: int
    weights: Interval
    kv_cache: int
    ram: Interval
    vram: Interval | None
    """Of the fullest GPU; None: none takes part."""
    total: Interval
    where: str
    gpu_layers: int
    fit: Fit
    reasons: tuple[str, ...]
    speed: Speed
    """At the end of the context."""
    notes: tuple[str, ...]


def plan_rows(
    engine: PlannedEngine,
    sizes: Sequence[tuple[str, ModelSize]],
    loads: Sequence[Load],
    room: Room,
) -> Iterator[Planned]:
    """A row for each quantization, with its sizes, and each load."""
    for quantization, size in sizes:
        for load in loads:
            placement = place(engine, size, quantization, load, room)
            speed = _speed(engine, size, quantization, load, room, placement)
            yield _row(placement, size, quantization, speed)


def _row(placement: Placement, size: ModelSize, quantization: str, speed: Speed) -> Planned:
    footprint = placement.footprint
    gpus = [each.total for each in footprint.gpus]
    return Planned(
        quantization=quantization,
        context_tokens=footprint.context_tokens,
        sequences=footprint.sequences,
        weights=Interval.around(size.weights.total, size.weights.doubt),
        kv_cache=sum(each.cache for each in footprint.shares),
        ram=footprint.on(RAM).total,
        vram=max(gpus, key=lambda each: each.high) if gpus else None,
        total=footprint.total,
        where=placement.where,
        gpu_layers=placement.devices.gpu_layers,
        fit=placement.preflight.fit,
        reasons=placement.preflight.reasons,
        speed=speed,
        notes=footprint.notes,
    )


def _speed(
    engine: PlannedEngine,
    size: ModelSize,
    quantization: str,
    load: Load,
    room: Room,
    placement: Placement,
) -> Speed:
    if size.traffic is None or placement.preflight.fit is Fit.NO:
        return Speed()
    on_gpu = placement.devices.gpu_layers / placement.all_layers if placement.devices.gpus else 0.0
    parts = [
        Part(
            share=share,
            efficiency=efficiency_of(engine.name, kind, quantization),
            bandwidth=limits.bandwidth,
            flops=limits.flops,
        )
        for kind, share, limits in (
            ("gpu", on_gpu, room.gpu_limits),
            ("cpu", 1 - on_gpu, room.cpu_limits),
        )
        if share
    ]
    kind = cache_type(load.cache_type)
    return expected_speed(
        size.traffic,
        parts,
        depth_tokens=load.context_tokens,
        prompt_tokens=load.prompt_tokens,
        kv_element_bytes=kind.bytes / kind.elements,
    )
