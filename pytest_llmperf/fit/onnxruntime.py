"""How much memory does onnxruntime-genai take for a model and a workload?

Keys and values have their full length from the first token on, in one buffer that past and present
share (``past_present_share_buffer``), in the type of the activations: ``kv_cache.cpp`` of
onnxruntime-genai. Logits are computed for every token of a prompt. Intervals as measured with
release 0.18 on a CPU, seven models of 15 to 290 million parameters, prompts of 128 to 2048 tokens.
"""

from __future__ import annotations

from pytest_llmperf.fit.footprint import RAM, Footprint, Interval, Share
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.mapped_table import resident_weights
from pytest_llmperf.fit.model_size import ModelSize
from pytest_llmperf.models.layers import cache_elements

_MIB = 1 << 20
_F32 = 4
_PROCESS = Interval(80 * _MIB, 110 * _MIB)
"""The interpreter and onnxruntime, after a request."""
_WORK = (7.5, 17.0)
"""Numbers of a token at once, of each of the widths of the MLP and of the model together."""


def onnxruntime_footprint(size: ModelSize, load: Load, *, element_bytes: float = 4.0) -> Footprint:
    """Footprint on a CPU; ``element_bytes`` of a cached number and an activation."""
    layers = size.layers
    cache = sum(
        round(cache_elements(each, load.context_tokens) * element_bytes) * load.sequences
        for each in (layers.layers if layers else ())
    )
    hidden, vocab = (layers.hidden, layers.vocab) if layers else (0, 0)
    tokens = load.sequences * load.prompt_tokens
    logits = tokens * vocab * _F32
    work = Interval.shares(round(tokens * (size.inner + hidden) * element_bytes), _WORK)
    return Footprint(
        context_tokens=load.context_tokens,
        sequences=load.sequences,
        shares=(
            Share(
                device=RAM,
                weights=resident_weights(size, load),
                cache=cache,
                compute=work + Interval.exactly(logits),
                overhead=_PROCESS,
            ),
        ),
        notes=size.notes,
    )
