"""How much memory does vLLM take for a model and a workload?

Weights and key heads are divided among ``tensor_parallel`` GPUs. Keys and values are whole blocks
(``vllm_bytes``). What it reserves beyond that (``gpu_memory_utilization``) is room for more
sequences, not need. Source: ``vllm/v1/worker/gpu_worker.py`` (``determine_available_memory``).
Not measured by us yet: what it takes beside weights and cache is a wide interval.
"""

from __future__ import annotations

from pytest_llmperf.fit.footprint import RAM, Footprint, Interval, Share
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import ModelSize
from pytest_llmperf.models.layers import FullAttention, Layer, SlidingAttention, vllm_bytes

_GIB = 1 << 30
_MIB = 1 << 20
_F32 = 4
_PROCESS = Interval(_GIB, 4 * _GIB)
"""Of the server and one engine process, in main memory."""
_CUDA_CONTEXT = Interval(400 * _MIB, 2 * _GIB)
"""Context, NCCL buffers, CUDA graphs."""
UNMEASURED = "what vLLM takes beside weights and cache was not measured by us"


def vllm_footprint(
    size: ModelSize,
    load: Load,
    *,
    element_bytes: float = 2.0,
    batched_tokens: int = 2048,
    tensor_parallel: int = 1,
) -> Footprint:
    """Footprint on ``tensor_parallel`` GPUs.

    ``element_bytes``: of a cached number. ``batched_tokens``: max_num_batched_tokens.
    """
    parts = tensor_parallel
    layers = size.layers
    cache = sum(
        vllm_bytes(each, load.context_tokens, element_bytes=element_bytes)
        // _divided(each, parts)
        * load.sequences
        for each in (layers.layers if layers else ())
    )
    hidden, vocab = (layers.hidden, layers.vocab) if layers else (0, 0)
    low = batched_tokens * (2 * size.inner // parts + 2 * hidden) * element_bytes
    high = 2 * low + 2 * load.sequences * vocab * _F32
    return Footprint(
        context_tokens=load.context_tokens,
        sequences=load.sequences,
        shares=(
            Share(device=RAM, overhead=_PROCESS),
            *(
                Share(
                    device=f"vram:{index}",
                    weights=Interval.around(size.weights.total / parts, size.weights.doubt),
                    cache=cache,
                    compute=Interval(round(low), round(high)),
                    overhead=_CUDA_CONTEXT,
                )
                for index in range(parts)
            ),
        ),
        notes=(*size.notes, UNMEASURED),
    )


def _divided(layer: Layer, parts: int) -> int:
    """Among how many GPUs the key heads of a layer are divided; the rest hold copies."""
    if isinstance(layer, FullAttention | SlidingAttention):
        return min(parts, layer.kv_heads)
    return 1
