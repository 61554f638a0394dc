"""If a model does not fit as it is, how else could it be run? The next best first.

The order is the guide's: all layers on the GPU in ever smaller types, then some of them, then none;
in the end a shorter context. What somebody has asked for by name is never changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from pytest_llmperf.backends import Backend, BackendOptions
from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.backends.transformers import TransformersOptions
from pytest_llmperf.backends.transformers_packing import Packing, missing_for
from pytest_llmperf.fit.before_load import expect
from pytest_llmperf.fit.devices import largest
from pytest_llmperf.fit.gpu_support import gpu_shares
from pytest_llmperf.fit.preflight import MARGIN_SHARE, Fit
from pytest_llmperf.fit.room import Room
from pytest_llmperf.models import ModelFiles, ModelSpec
from pytest_llmperf.models.layers import MOST_LAYERS

LLAMA_CPP_TYPES = ("F16", "Q8_0", "Q4_K_M")
TRANSFORMERS_TYPES = ("F32", "BF16")
_CELLS = 256
"""Tokens by which a context grows: llama.cpp rounds to them."""
_PACKED: tuple[Packing, ...] = ("int8", "nf4")
_MIB = 1 << 20


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One way of running a model."""

    spec: ModelSpec
    options: BackendOptions
    words: str
    """What is special about it: ``Q8_0, 20 layers on the GPU``."""
    missing: str = ""
    """What would have to be installed for it."""


def ladder(
    spec: ModelSpec,
    files: ModelFiles | None,
    backend: Backend,
    options: BackendOptions,
    given: Collection[str],
    room: Room,
) -> Iterator[Rung]:
    """Ways of running a model, the best first.

    ``files`` None: of a synthetic model, whose quantization can be chosen unless ``spec`` states
    one. ``given``: names of the options that were asked for.
    """
    match options:
        case LlamaCppOptions():
            yield from _llama_cpp(spec, files, options, given, room)
        case TransformersOptions():
            yield from _transformers(spec, files, options, given, room)
        case _:
            yield Rung(spec=spec, options=options, words=f"{backend.name} as asked")


def _types(spec: ModelSpec, types: tuple[str, ...]) -> list[ModelSpec]:
    """The model in each type that may be chosen."""
    if spec.quantization is not None or not spec.is_synthetic:
        return [spec]
    return [msgspec.structs.replace(spec, quantization=each) for each in types]


def _llama_cpp(
    spec: ModelSpec,
    files: ModelFiles | None,
    options: LlamaCppOptions,
    given: Collection[str],
    room: Room,
) -> Iterator[Rung]:
    specs = _types(spec, LLAMA_CPP_TYPES)
    last = specs[-1]
    on_cpu = specs
    if gpu_shares(options, room):
        layers = "all" if options.n_gpu_layers < 0 else options.n_gpu_layers
        for each in specs:
            yield _rung(each, options, f"{layers} layers on the GPU")
        if "n_gpu_layers" in given:
            return
        partly = _most_layers(last, files, options, room)
        if partly is not None:
            yield _rung(last, partly, f"{partly.n_gpu_layers} layers on the GPU")
        on_cpu = [last]
    options = msgspec.structs.replace(options, n_gpu_layers=0)
    for each in on_cpu:
        yield _rung(each, options, "on the CPU")
    if "n_ctx" not in given:
        for shorter in _shorter_contexts(last, files, options, room):
            yield _rung(last, shorter, f"on the CPU, {shorter.n_ctx} tokens of context")


def _shorter_contexts(
    spec: ModelSpec, files: ModelFiles | None, options: LlamaCppOptions, room: Room
) -> Iterator[LlamaCppOptions]:
    """The longest context that might fit, and the longest that surely does, if that is another."""

    def of(cells: int) -> LlamaCppOptions:
        return msgspec.structs.replace(options, n_ctx=cells * _CELLS)

    def longest(fits: Collection[Fit]) -> int:
        def holds(cells: int) -> bool:
            found = expect(spec, files, of(cells), room)
            return found is not None and found.fit in fits

        return max(1, largest(holds, options.n_ctx // _CELLS - 1))

    yield from map(of, dict.fromkeys((longest((Fit.YES, Fit.TIGHT)), longest((Fit.YES,)))))


def _most_layers(
    spec: ModelSpec, files: ModelFiles | None, options: LlamaCppOptions, room: Room
) -> LlamaCppOptions | None:
    """The most layers on GPUs that surely fit there, but not all; None: not one does."""
    only_gpus = msgspec.structs.replace(room, ram=None)

    def fits(layers: int) -> bool:
        tried = msgspec.structs.replace(options, n_gpu_layers=layers)
        found = expect(spec, files, tried, only_gpus)
        return found is not None and found.fit is Fit.YES

    layers = largest(fits, MOST_LAYERS)
    if layers in (0, MOST_LAYERS):  # none, or all, which was tried before
        return None
    return msgspec.structs.replace(options, n_gpu_layers=layers)


def _transformers(
    spec: ModelSpec,
    files: ModelFiles | None,
    options: TransformersOptions,
    given: Collection[str],
    room: Room,
) -> Iterator[Rung]:
    specs = _types(spec, TRANSFORMERS_TYPES)
    where = "GPU" if gpu_shares(options, room) else "CPU"
    for each in specs:
        yield _rung(each, options, f"on the {where}")
    smaller = options
    if "dtype" not in given and specs[-1].quantization != "BF16":
        smaller = msgspec.structs.replace(options, dtype="bfloat16")
        yield _rung(specs[-1], smaller, f"as bfloat16 on the {where}")
    is_packed = files is not None and files.quantization not in files.type_mix  # GPTQ, AWQ …
    if not is_packed and not {"quantize", "dtype", "device_map"} & set(given):
        yield from _packed(specs[-1], smaller, where)
    if where == "CPU" or {"device", "device_map"} & set(given):
        return
    shared = _max_memory(specs[-1], files, smaller, room)
    if shared is not None:
        options = msgspec.structs.replace(smaller, device_map="auto", max_memory=shared)
        yield _rung(specs[-1], options, f"layers on the GPU and the CPU ({shared})")
    yield _rung(specs[-1], msgspec.structs.replace(smaller, device="cpu"), "on the CPU")


def _packed(spec: ModelSpec, options: TransformersOptions, where: str) -> Iterator[Rung]:
    """In eight bits, then in four."""
    for packing in _PACKED:
        yield Rung(
            spec=spec,
            options=msgspec.structs.replace(options, quantize=packing),
            words=f"packed as {packing} on the {where}",
            missing=missing_for(packing),
        )


def _max_memory(
    spec: ModelSpec, files: ModelFiles | None, options: TransformersOptions, room: Room
) -> str | None:
    """What accelerate may fill with weights: each GPU less cache, buffers, engine and a margin."""
    found = expect(spec, files, options, room)
    if found is None or not room.vram:
        return None
    share = found.footprint.gpus[0]
    beside = share.total.high - share.weights.high
    allowed = [
        f"{index}={round((vram * (1 - MARGIN_SHARE) - beside) / _MIB)}MiB"
        for index, vram in enumerate(room.vram)
        if vram * (1 - MARGIN_SHARE) > beside
    ]
    ram = [] if room.ram is None else [f"cpu={round(room.ram * (1 - MARGIN_SHARE) / _MIB)}MiB"]
    return ", ".join([*allowed, *ram]) if allowed else None


def _rung(spec: ModelSpec, options: BackendOptions, words: str) -> Rung:
    kind = f"{spec.quantization}, " if spec.quantization else ""
    return Rung(spec=spec, options=options, words=kind + words)
