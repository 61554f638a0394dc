"""How much memory does onnxruntime-genai take for a model and a workload?

Keys and values have their full length from the first token on, in one buffer that past and present
share (``past_present_share_buffer``), in the type of the activations. Source: ``kv_cache.cpp`` of
onnxruntime-genai. Not measured by us yet: what it takes beside them is a wide interval.
"""

from __future__ import annotations

from pytest_llmperf.fit.footprint import RAM, Footprint, Interval, Share
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import ModelSize
from pytest_llmperf.models.layers import cache_elements

_MIB = 1 << 20
_F32 = 4
_PROCESS = Interval(100 * _MIB, 400 * _MIB)
_COPY_SHARE = 1.0
"""Weights that a kernel packs anew are there twice until the session is made."""
UNMEASURED = "what onnxruntime takes beside weights and cache was not measured by us"


def onnxruntime_footprint(size: ModelSize, load: Load, *, element_bytes: float = 4.0) -> Footprint:
    """Footprint on a CPU; ``element_bytes`` of a cached number and an activation."""
    layers = size.layers
    cache = sum(
        round(cache_elements(each, load.context_tokens) * element_bytes) * load.sequences
        for each in (layers.layers if layers else ())
    )
    hidden, vocab = (layers.hidden, layers.vocab) if layers else (0, 0)
    low = load.sequences * load.prompt_tokens * (2 * size.inner + 2 * hidden) * element_bytes
    weights = size.weights.total
    return Footprint(
        context_tokens=load.context_tokens,
        sequences=load.sequences,
        shares=(
            Share(
                device=RAM,
                weights=Interval(weights, round(weights * (1 + _COPY_SHARE))),
                cache=cache,
                compute=Interval(
                    round(low), round(2 * low) + load.prompt_tokens * load.sequences * vocab * _F32
                ),
                overhead=_PROCESS,
            ),
        ),
        notes=(*size.notes, UNMEASURED),
    )
