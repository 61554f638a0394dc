"""May a model be loaded here and now? Asked before every load, and answered by arithmetic."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pytest_llmperf.backends import Backend, BackendOptions
from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.backends.transformers import TransformersOptions
from pytest_llmperf.fit.devices import Devices, largest
from pytest_llmperf.fit.engines import ENGINES
from pytest_llmperf.fit.footprint import Footprint, Interval
from pytest_llmperf.fit.gpu_support import gpu_shares
from pytest_llmperf.fit.llama_cpp import llama_cpp_footprint
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import ModelSize, scaled, size_as_gguf, size_as_loaded
from pytest_llmperf.fit.preflight import Fit, preflight
from pytest_llmperf.fit.room import Room, room_here
from pytest_llmperf.fit.size_of_files import size_of_files
from pytest_llmperf.fit.transformers import CONVERTED, PACKED, transformers_footprint
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.hardware.memory import address_space_limit_bytes, from_linux
from pytest_llmperf.models import ModelFiles, ModelSpec
from pytest_llmperf.models.config import read_config
from pytest_llmperf.models.errors import ModelError
from pytest_llmperf.models.layers import MOST_LAYERS
from pytest_llmperf.models.synthetic import named_config

USUAL = Load(context_tokens=640, prompt_tokens=512)
"""For engines whose cache grows with the work, which nobody has stated yet at the load."""
_DTYPE_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
_BYTES = {"F32": 4.0, "BF16": 2.0, "F16": 2.0}
"""Of types that torch keeps or converts; all others stay as they are."""


class DoesNotFit(Exception):
    """The model needs more memory than there is; the message is the arithmetic."""


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """One way of running a model that was not taken."""

    what: str
    why: str


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """What a load was expected to take."""

    footprint: Footprint
    fit: Fit
    reasons: tuple[str, ...]
    chosen: str = ""
    """Under ``fit=True``, what was chosen."""
    rejected: tuple[Rejected, ...] = ()
    """And what would have been better, with the reasons."""


def expect(
    spec: ModelSpec, files: ModelFiles | None, options: BackendOptions, room: Room
) -> Expectation | None:
    """What these options would take of ``room``; None: of this engine or model nothing is known.

    ``files`` None: of a synthetic model that is not built yet.
    """
    if isinstance(options, TransformersOptions) and options.device_map is not None:
        footprint = _shared(spec, files, options, room)
    else:
        footprint = footprint_of(spec, files, options, gpu_shares(options, room))
    if footprint is None:
        return None
    found = preflight(footprint, room)
    return Expectation(footprint=footprint, fit=found.fit, reasons=found.reasons)


def require_fit(expectation: Expectation | None) -> None:
    """Raises DoesNotFit."""
    if expectation is not None and expectation.fit is Fit.NO:
        raise DoesNotFit("; ".join(expectation.reasons))


def require_room_at_most(
    spec: ModelSpec, backend: Backend, options: BackendOptions, hardware: Hardware
) -> None:
    """Before a synthetic model is built: might it fit if nothing else ran here? Raises DoesNotFit.

    Files that are there already are asked right before their load.
    """
    if not spec.is_synthetic:
        return
    wanted = spec.quantization or options.default_quantization(backend.default_quantization)
    spec = msgspec.structs.replace(spec, quantization=wanted)
    room = msgspec.structs.replace(
        room_here(hardware), ram=_within_limits(hardware.memory.capacity_bytes)
    )
    require_fit(expect(spec, None, options, room))


def room_now(hardware: Hardware) -> Room:
    """What is free now; of GPUs, all of their memory."""
    memory = hardware.memory
    if hardware.os_family == "linux":
        memory, _ = from_linux(Path("/"))  # what was free when the run began is gone
    room = room_here(hardware)
    return msgspec.structs.replace(room, ram=_within_limits(memory.usable_bytes))


def _within_limits(size: int) -> int:
    """No more than the process may map at all."""
    limit = address_space_limit_bytes()
    return size if limit is None else min(size, limit)


def footprint_of(
    spec: ModelSpec,
    files: ModelFiles | None,
    options: BackendOptions,
    shares: tuple[float, ...] = (),
    load: Load | None = None,
    gpu_layers: int = MOST_LAYERS,
) -> Footprint | None:
    """Footprint of a model with these options; None: nothing is known of it.

    ``shares``: of each GPU; ``gpu_layers``: for engines whose options do not say it. ``load``: the
    work to come; None: any, and USUAL where the cache grows with the work.
    """
    try:
        match options:
            case LlamaCppOptions():
                size = _size_in_gguf(spec, files)
                return llama_cpp_footprint(size, options, shares, load=load)
            case TransformersOptions():
                return _in_transformers(
                    spec,
                    files,
                    options,
                    load or USUAL,
                    Devices(gpu_layers=gpu_layers, shares=shares),
                )
            case _:
                return None
    except ModelError:  # what is wrong with it, the load says
        return None


def _in_transformers(
    spec: ModelSpec,
    files: ModelFiles | None,
    options: TransformersOptions,
    load: Load,
    devices: Devices,
) -> Footprint:
    """Raises ModelError."""
    stored, element_bytes = _bytes_in_memory(spec, files, options.dtype)
    size = _size_in_folder(spec, files, stored or element_bytes)
    held, beside = size, None
    if options.quantize is not None:
        config = read_config(Path(files.path) / "config.json") if files else named_config(spec)[1]
        packed = PACKED[options.quantize]
        held = size_as_loaded(config, packed.element_bytes, element_bytes)
        beside = Interval.shares(size.weights.total, packed.beside)
    elif stored is not None and stored != element_bytes:
        held = scaled(size, element_bytes / stored)
        beside = Interval.shares(size.weights.total, CONVERTED)
    return transformers_footprint(
        held,
        load,
        element_bytes=element_bytes,
        beside=beside,
        eager=options.attn_implementation == "eager",
        devices=devices,
    )


def _shared(
    spec: ModelSpec, files: ModelFiles | None, options: BackendOptions, room: Room
) -> Footprint | None:
    """Where accelerate shares the layers: as many on GPUs as fit there."""
    shares = gpu_shares(options, room)
    only_gpus = msgspec.structs.replace(room, ram=None)

    def on(layers: int) -> Footprint | None:
        return footprint_of(spec, files, options, shares, gpu_layers=layers)

    def fits(layers: int) -> bool:
        found = on(layers)
        return found is not None and preflight(found, only_gpus).fit is Fit.YES

    return on(largest(fits, MOST_LAYERS) if on(0) is not None else 0)


def _size_in_gguf(spec: ModelSpec, files: ModelFiles | None) -> ModelSize:
    if files is not None:
        return size_of_files(files)
    return size_as_gguf(named_config(spec)[1], spec.quantization or "F16")


def _size_in_folder(spec: ModelSpec, files: ModelFiles | None, stored: float) -> ModelSize:
    if files is not None:
        return size_of_files(files)
    return size_as_loaded(named_config(spec)[1], stored)


def _size_in_onnx(spec: ModelSpec, files: ModelFiles | None) -> ModelSize:
    if files is not None:
        return size_of_files(files)
    planned = ENGINES["onnxruntime"]
    return planned.size(named_config(spec)[1], spec.quantization or "INT4")


def _bytes_in_memory(
    spec: ModelSpec, files: ModelFiles | None, dtype: str
) -> tuple[float | None, float]:
    """Of a weight in the files, and of a weight, an activation and a cached number in memory.

    The first is None where weights stay as they are stored: packed by a quantizer. ``auto`` is
    what the config says, and only without that what is stored.
    """
    if files is None:
        stored: float | None = _BYTES.get(spec.quantization or "", 2.0)
        said = None
    else:
        config = read_config(Path(files.path) / "config.json").values
        is_packed = config.get("quantization_config") is not None
        stored = None if is_packed else _BYTES.get(next(iter(files.type_mix)))
        said = config.get("dtype") or config.get("torch_dtype")
    asked = _DTYPE_BYTES.get(str(said) if dtype == "auto" else dtype)
    return stored, asked or stored or 2.0
