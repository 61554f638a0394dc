"""How much memory does transformers take for a model, its options and a workload?

Cache: ``transformers_bytes``. Buffers: the logits of the last token in float32, the activations of
one layer for a whole prompt; eager attention holds the scores of one layer and their softmax.
What torch itself takes was measured: docs/benchmarks.md.
"""

from __future__ import annotations

from pytest_llmperf.fit.footprint import NOTHING, RAM, Footprint, Interval, Share
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import ModelSize
from pytest_llmperf.models.layers import transformers_bytes

_MIB = 1 << 20
_F32 = 4
_PROCESS = Interval(380 * _MIB, 430 * _MIB)
"""The interpreter, torch (CPU wheel 2.13) and transformers 5.23, after a request."""
_CUDA_CONTEXT = Interval(350 * _MIB, 900 * _MIB)


def transformers_footprint(
    size: ModelSize, load: Load, *, element_bytes: float, eager: bool = False, on_gpu: bool = False
) -> Footprint:
    """Footprint of a model whose weights, cache and activations are ``element_bytes`` each."""
    layers = size.layers
    cache = NOTHING
    if layers is not None:
        held = [
            transformers_bytes(
                each,
                load.context_tokens,
                prompt_tokens=load.prompt_tokens,
                element_bytes=element_bytes,
            )
            * load.sequences
            for each in layers.layers
        ]
        cache = Interval(sum(held), sum(held) + max(held, default=0))
    buffers = Interval(cache.low, cache.high)
    share = Share(
        device="vram:0" if on_gpu else RAM,
        weights=Interval.around(size.weights.total, size.weights.doubt),
        cache=buffers.low,
        compute=Interval(0, buffers.high - buffers.low)
        + _activations(size, load, element_bytes, eager=eager),
        overhead=_CUDA_CONTEXT if on_gpu else _PROCESS,
    )
    process = (Share(device=RAM, overhead=_PROCESS),) if on_gpu else ()
    return Footprint(
        context_tokens=load.context_tokens,
        sequences=load.sequences,
        shares=(*process, share),
        notes=size.notes,
    )


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
