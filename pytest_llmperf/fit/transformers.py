"""How much memory does transformers take for a model, its options and a workload?

Cache: ``transformers_bytes``, and one layer's once more, which each step writes anew. Buffers: the
logits of the last token in float32, the activations of one layer for a whole prompt; eager
attention holds the scores of one layer and their softmax. What torch itself takes was measured:
docs/benchmarks.md.
"""

from __future__ import annotations

import math

from pytest_llmperf.backends.transformers_packing import Packing
from pytest_llmperf.fit.devices import Devices
from pytest_llmperf.fit.footprint import NOTHING, RAM, Footprint, Interval, Share
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import ModelSize
from pytest_llmperf.models.layers import Recurrent, transformers_bytes

_MIB = 1 << 20
_F32 = 4
_PROCESS = Interval(392 * _MIB, 412 * _MIB)
"""The interpreter, torch (CPU wheel 2.13) and transformers 5.23, after a request."""
_CUDA_CONTEXT = Interval(350 * _MIB, 900 * _MIB)
_CPU = Devices()
_LEAST_WORK, _MOST_WORK = (3, 8), (6, 24)
"""Numbers of a token at once, by the widths of its MLP and of the model, as they were measured."""
_SCORE_BYTES = (8.5, 12.0)
"""Of one of eager attention, masked and normalized, in two-byte numbers as in float32."""
_SCANNED = (2.5, 3.7)
"""States of a layer for every token of a prompt: a scan without a kernel of its own holds them."""
_MERGED = (1.6, 2.3)
"""Experts are copied into one matrix of a layer while they are loaded."""
_CONVERTED = (0.6, 1.0)
"""Of the file's pages that stay beside weights which were converted to another type."""
PACKED_BYTES: dict[Packing, float] = {
    "nf4": 0.5625,
    "fp4": 0.5625,
    "int8": 1.005,
    "quanto-int8": 1.003,
    "quanto-int4": 0.5312,
    "torchao-int8": 1.003,
}
"""Of a weight with its scales: a float32 for each 64 weights (nf4, fp4), two numbers of two bytes
for each 128 (quanto-int4), one number for each row."""
_FAULT_BYTES = 64 << 10
"""What the kernel maps around a row of a table that is read."""


def transformers_footprint(
    size: ModelSize,
    load: Load,
    *,
    element_bytes: float,
    eager: bool = False,
    converted_bytes: int = 0,
    devices: Devices = _CPU,
) -> Footprint:
    """Footprint of a model whose cache and activations are ``element_bytes`` each.

    ``converted_bytes``: of the files, if the weights are loaded as another type than they are in.
    """
    weights = size.weights
    count = len(weights.layers)
    on_gpu = min(devices.gpu_layers, count + 1) if devices.gpus else 0
    first = min(count, count + 1 - on_gpu)
    caches = _caches(size, load, element_bytes)
    anew = max(caches, default=0)
    work = Interval(0, anew) + _activations(size, load, element_bytes, eager=eager)
    # A tied table is one tensor; it goes where the output goes.
    beside = weights.output + weights.tables
    if not on_gpu:
        share = Share(
            device=RAM,
            weights=_resident(size, load, is_mapped=not converted_bytes),
            cache=sum(caches),
            compute=work,
            overhead=_PROCESS
            + _part(weights.experts, _MERGED)
            + _part(converted_bytes, _CONVERTED),
        )
        shares: tuple[Share, ...] = (share,)
    else:
        moved = sum(weights.layers[first:]) + beside
        shares = (
            Share(
                device=RAM,
                weights=Interval.around(sum(weights.layers[:first]), weights.doubt),
                cache=sum(caches[:first]),
                overhead=_PROCESS,
            ),
            *(
                Share(
                    device=f"vram:{index}",
                    weights=Interval.around(moved * part, weights.doubt),
                    cache=round(sum(caches[first:]) * part),
                    compute=work,
                    overhead=_CUDA_CONTEXT,
                )
                for index, part in enumerate(devices.shares)
                if part
            ),
        )
    return Footprint(
        context_tokens=load.context_tokens,
        sequences=load.sequences,
        shares=shares,
        notes=size.notes,
    )


def _caches(size: ModelSize, load: Load, element_bytes: float) -> list[int]:
    """Bytes of each layer; empty where they are not known."""
    return [
        load.sequences
        * transformers_bytes(
            each,
            load.context_tokens,
            prompt_tokens=load.prompt_tokens,
            element_bytes=element_bytes,
        )
        for each in (size.layers.layers if size.layers else ())
    ]


def _resident(size: ModelSize, load: Load, *, is_mapped: bool) -> Interval:
    """Weights in main memory: of a mapped table only the rows that were looked up, and around."""
    weights = Interval.around(size.weights.total, size.weights.doubt)
    table = size.weights.tables
    if not is_mapped or size.weights.tied or not table:
        return weights
    read = 2 * load.sequences * load.prompt_tokens * _FAULT_BYTES  # a first prompt and another one
    return Interval(weights.low - round(table * math.exp(-read / table)), weights.high)


def _part(whole: int, shares: tuple[float, float]) -> Interval:
    return Interval(round(whole * shares[0]), round(whole * shares[1]))


def _activations(size: ModelSize, load: Load, element_bytes: float, *, eager: bool) -> Interval:
    if size.layers is None:
        return NOTHING
    tokens = load.sequences * load.prompt_tokens
    rows = tokens if size.keeps_all_logits else load.sequences
    logits = rows * size.layers.vocab * (element_bytes + _F32)
    low, high = (
        tokens * (of_inner * size.inner + of_hidden * size.layers.hidden) * element_bytes
        for of_inner, of_hidden in (_LEAST_WORK, _MOST_WORK)
    )
    if eager:
        scores = tokens * load.prompt_tokens * size.layers.heads
        low += scores * _SCORE_BYTES[0]
        high += scores * _SCORE_BYTES[1]
    states = max(
        (each.state_elements for each in size.layers.layers if isinstance(each, Recurrent)),
        default=0,
    )
    low += _SCANNED[0] * tokens * states * _F32
    high += _SCANNED[1] * tokens * states * _F32
    return Interval(round(low + 0.8 * logits), round(high + logits))
