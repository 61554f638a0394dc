"""How much memory does transformers take for a model, its options and a workload?

Cache: ``transformers_bytes``, and one layer's once more, which each step writes anew. Buffers: the
logits of the last token in float32, the activations of one layer for a whole prompt; eager
attention holds the scores of one layer and their softmax. What torch itself takes was measured:
docs/benchmarks.md.
"""

from __future__ import annotations

from pytest_llmperf.fit.devices import Devices
from pytest_llmperf.fit.footprint import NOTHING, RAM, Footprint, Interval, Share
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import ModelSize
from pytest_llmperf.models.layers import transformers_bytes

_MIB = 1 << 20
_F32 = 4
_PROCESS = Interval(380 * _MIB, 430 * _MIB)
"""The interpreter, torch (CPU wheel 2.13) and transformers 5.23, after a request."""
_CUDA_CONTEXT = Interval(350 * _MIB, 900 * _MIB)
_CPU = Devices()


def transformers_footprint(
    size: ModelSize,
    load: Load,
    *,
    element_bytes: float,
    eager: bool = False,
    devices: Devices = _CPU,
) -> Footprint:
    """Footprint of a model whose cache and activations are ``element_bytes`` each."""
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
            weights=Interval.around(weights.total, weights.doubt),
            cache=sum(caches),
            compute=work,
            overhead=_PROCESS,
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


def _activations(size: ModelSize, load: Load, element_bytes: float, *, eager: bool) -> Interval:
    if size.layers is None:
        return NOTHING
    tokens = load.sequences * load.prompt_tokens
    logits = load.sequences * size.layers.vocab * _F32
    low = tokens * (2 * size.inner + 2 * size.layers.hidden) * element_bytes
    high = tokens * (3 * size.inner + 8 * size.layers.hidden) * element_bytes
    if eager:
        scores = tokens * load.prompt_tokens * size.layers.heads
        low, high = low + scores * _F32, high + scores * (_F32 + 2 * element_bytes)
    return Interval(round(low) + logits, round(high) + 2 * logits)
