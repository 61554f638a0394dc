"""How much memory does transformers take for a model, its options and a workload?

Cache: ``transformers_bytes``, and one layer's once more, which each step writes anew. Buffers: the
logits of the last token in float32, the activations of one layer for a whole prompt; eager
attention holds the scores of one layer and their softmax. What torch itself takes was measured:
docs/benchmarks.md.
"""

from __future__ import annotations

from typing import NamedTuple

from pytest_llmperf.backends.transformers_packing import Packing
from pytest_llmperf.fit.devices import Devices
from pytest_llmperf.fit.footprint import NOTHING, RAM, Footprint, Interval, Share
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.mapped_table import resident_weights
from pytest_llmperf.fit.model_size import ModelSize, TorchStyle
from pytest_llmperf.models.layers import Recurrent, transformers_bytes

_MIB = 1 << 20
_F32 = 4
_PROCESS = Interval(392 * _MIB, 412 * _MIB)
"""The interpreter, torch (CPU wheel 2.13) and transformers 5.23, after a request."""
_CUDA_CONTEXT = Interval(350 * _MIB, 900 * _MIB)
_CPU = Devices()
_WORK: dict[tuple[str, float], tuple[float, float]] = {
    ("gated", 2.0): (4.6, 10.5),
    ("gated", 4.0): (3.5, 7.5),
    ("plain", 2.0): (3.0, 6.0),
    ("plain", 4.0): (2.5, 5.0),
    ("composed", 2.0): (6.0, 13.0),
    ("composed", 4.0): (4.0, 10.0),
}
"""By kind of MLP and size of a number: what a token holds at once, in widths of the MLP and of
the model together. Wide because the heap is: the same case took 743 and 807 MiB."""
_SCORE_BYTES = {
    ("plain", 2.0): (8.5, 12.0),
    ("plain", 4.0): (8.0, 12.0),
    ("capped", 2.0): (9.5, 14.0),
    ("capped", 4.0): (9.0, 14.0),
    ("biased", 2.0): (14.5, 22.0),
    ("biased", 4.0): (14.5, 24.0),
}
"""By kind and size of a number: of one of eager attention's scores, masked and normalized."""
_EAGER_KERNELS = Interval(30 * _MIB, 50 * _MIB)
"""What multiplying attention's matrices brings in once, in two-byte numbers: 38 to 47 MiB were
seen, with models and prompts of every size."""
_UNFUSED_SCORE_BYTES = (8.5, 15.0)
"""Of fused attention, where it falls back."""
_SCANNED = (2.5, 3.7)
"""States of a layer for every token of a prompt: a scan without a kernel of its own holds them."""
_MERGED = (1.6, 2.5)
"""Experts are copied into one matrix of a layer while they are loaded."""
CONVERTED = (0.6, 1.0)
"""Of the file's pages that stay beside weights which were converted to another type."""


class Packed(NamedTuple):
    """Weights that are packed while they are loaded, as measured on a CPU."""

    element_bytes: float
    """Of a weight, scales included."""
    beside: tuple[float, float]
    """What stays beside them, in sizes of the file: its pages, and copies."""


PACKED: dict[Packing, Packed] = {
    "nf4": Packed(0.5625, (0.85, 1.1)),  # a float32 for each 64 weights
    "fp4": Packed(0.5625, (0.85, 1.1)),
    "int8": Packed(1.005, (1.25, 1.85)),  # a float32 for each row
    "quanto-int8": Packed(1.003, (1.4, 2.6)),
    "quanto-int4": Packed(0.5312, (1.25, 1.65)),  # two numbers of two bytes for each 128
    "torchao-int8": Packed(1.003, (0.85, 1.35)),
}


def transformers_footprint(
    size: ModelSize,
    load: Load,
    *,
    element_bytes: float,
    eager: bool = False,
    beside: Interval | None = None,
    devices: Devices = _CPU,
) -> Footprint:
    """Footprint of a model whose cache and activations are ``element_bytes`` each.

    ``beside``: what stays beside weights that are converted or packed; None: they are as in the
    file, and mapped.
    """
    weights = size.weights
    count = len(weights.layers)
    on_gpu = min(devices.gpu_layers, count + 1) if devices.gpus else 0
    first = min(count, count + 1 - on_gpu)
    caches = _caches(size, load, element_bytes)
    anew = max(caches, default=0)
    work = Interval(0, anew) + _activations(size, load, element_bytes, eager=eager)
    # A tied table is one tensor; it goes where the output goes.
    ends = weights.output + weights.tables
    if not on_gpu:
        share = Share(
            device=RAM,
            weights=resident_weights(size, load) if beside is None else _all_of(size),
            cache=sum(caches),
            compute=work,
            overhead=_PROCESS + Interval.shares(weights.experts, _MERGED) + (beside or NOTHING),
        )
        shares: tuple[Share, ...] = (share,)
    else:
        moved = sum(weights.layers[first:]) + ends
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


def _all_of(size: ModelSize) -> Interval:
    return Interval.around(size.weights.total, size.weights.doubt)


def _activations(size: ModelSize, load: Load, element_bytes: float, *, eager: bool) -> Interval:
    if size.layers is None:
        return NOTHING
    tokens = load.sequences * load.prompt_tokens
    logits = load.sequences * size.layers.vocab * (element_bytes + _F32)
    width = (size.inner + size.layers.hidden) * element_bytes
    number_bytes = 4.0 if element_bytes > 2 else 2.0
    work = Interval.shares(round(tokens * width), _WORK[size.style.mlp, number_bytes])
    states = max(
        (each.state_elements for each in size.layers.layers if isinstance(each, Recurrent)),
        default=0,
    )
    return (
        Interval(round(0.8 * logits), round(logits))
        + work
        + _scores(
            size.style,
            tokens * load.prompt_tokens * size.layers.heads,
            number_bytes if eager else None,
        )
        + Interval.shares(tokens * states * _F32, _SCANNED)
    )


def _scores(style: TorchStyle, count: int, eager_bytes: float | None) -> Interval:
    """What the scores of one layer take while they are made.

    ``eager_bytes``: size of a number in eager attention; None: it is fused.
    """
    if eager_bytes is None:
        return Interval.shares(count, _UNFUSED_SCORE_BYTES) if style.never_fuses else NOTHING
    kernels = _EAGER_KERNELS if eager_bytes == 2.0 and count else NOTHING
    return kernels + Interval.shares(count, _SCORE_BYTES[style.scores, eager_bytes])
