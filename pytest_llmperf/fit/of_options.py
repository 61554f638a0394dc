"""What would a model take with these options of an engine?"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pytest_llmperf.backends import BackendOptions
from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.backends.onnxruntime import OnnxRuntimeOptions
from pytest_llmperf.backends.openai_options import USUAL_CONTEXT, OpenAIOptions
from pytest_llmperf.backends.transformers import TransformersOptions
from pytest_llmperf.backends.vllm import VllmOptions
from pytest_llmperf.fit.devices import Devices
from pytest_llmperf.fit.engines import ENGINES
from pytest_llmperf.fit.footprint import NOTHING, RAM, Footprint, Interval, Share
from pytest_llmperf.fit.llama_cpp import llama_cpp_footprint
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import ModelSize, scaled, size_as_gguf, size_as_loaded
from pytest_llmperf.fit.onnxruntime import onnxruntime_footprint
from pytest_llmperf.fit.size_of_files import size_of_files
from pytest_llmperf.fit.transformers import CONVERTED, PACKED, transformers_footprint
from pytest_llmperf.fit.vllm import vllm_footprint
from pytest_llmperf.models import ModelFiles, ModelSpec
from pytest_llmperf.models.config import read_config
from pytest_llmperf.models.describe import describe
from pytest_llmperf.models.errors import ModelError, UnsupportedModel
from pytest_llmperf.models.layers import MOST_LAYERS
from pytest_llmperf.models.synthetic import named_config

USUAL = Load(context_tokens=640, prompt_tokens=512)
"""For engines whose cache grows with the work, which nobody has stated yet at the load."""
_VLLM_CONTEXT = 2048
_MIB = 1 << 20
_PAGES, _PAGE_TOKENS = 32, 256
"""Of continuous batching, where the options leave them out."""
_DTYPE_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
_BYTES = {"F32": 4.0, "BF16": 2.0, "F16": 2.0}
"""Of types that torch keeps or converts; all others stay as they are."""
_BESIDE = {
    "llama-server": Interval(16 * _MIB, 30 * _MIB),
    "llama-cpp-server": Interval(25 * _MIB, 60 * _MIB),
}
"""Of a server and the worker that starts it, beyond what the engine takes in a worker; measured
with models of 0.2 to 1.1 billion parameters. Not of vLLM's: it did not follow from the model."""


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
    found: Footprint | None
    try:
        match options:
            case LlamaCppOptions():
                size = _size_in_gguf(spec, files)
                found = llama_cpp_footprint(size, options, shares, load=load)
            case TransformersOptions():
                found = _in_transformers(
                    spec,
                    files,
                    options,
                    load or USUAL,
                    Devices(gpu_layers=gpu_layers, shares=shares),
                )
            case OnnxRuntimeOptions():
                found = onnxruntime_footprint(_size_in_onnx(spec, files), load or USUAL)
            case VllmOptions(quantization=None):
                found = _in_vllm(spec, files, options, shares)
            case OpenAIOptions(base_url=None, command=None, arguments=""):
                found = _in_server(spec, files, options, shares)
            case _:
                found = None
    except ModelError:  # what is wrong with it, the load says
        return None
    return found


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
    if options.batching == "continuous":  # allocates all of its pages at the load
        cached = (options.num_blocks or _PAGES) * (options.page_size or _PAGE_TOKENS)
        load = msgspec.structs.replace(load, context_tokens=cached, sequences=1)
    if options.cache_implementation == "off":  # nothing is kept, and a step reads all of it
        load = msgspec.structs.replace(load, context_tokens=0, prompt_tokens=load.context_tokens)
    footprint = transformers_footprint(
        held,
        load,
        element_bytes=element_bytes,
        beside=beside,
        eager=options.attn_implementation == "eager",
        devices=devices,
    )
    if options.assistant_model is None:
        return footprint
    draft = size_of_files(describe(Path(options.assistant_model).expanduser(), "hf"))
    drafting = transformers_footprint(draft, load, element_bytes=element_bytes, devices=devices)
    own = (msgspec.structs.replace(each, overhead=NOTHING) for each in drafting.shares)
    return footprint.with_another(msgspec.structs.replace(drafting, shares=tuple(own)))


def _in_vllm(
    spec: ModelSpec, files: ModelFiles | None, options: VllmOptions, shares: tuple[float, ...]
) -> Footprint:
    """Its cache is as long as it was told to make it. Raises ModelError."""
    stored, element_bytes = _bytes_in_memory(spec, files, options.dtype)
    if options.dtype == "auto":
        element_bytes = min(element_bytes, 2.0)  # vLLM makes bfloat16 of float32
    size = _size_in_folder(spec, files, stored or element_bytes)
    held = scaled(size, element_bytes / stored) if stored else size
    longest = held.layers.max_context if held.layers else None
    context = options.max_model_len or min(_VLLM_CONTEXT, longest or _VLLM_CONTEXT)
    load = Load(context_tokens=context, prompt_tokens=context, sequences=options.max_num_seqs)
    parts = sum(share > 0 for share in shares)
    cached = 1.0 if "8" in options.kv_cache_dtype else element_bytes
    found = vllm_footprint(held, load, element_bytes=cached, tensor_parallel=parts)
    if options.kv_cache_memory_bytes is None:
        return found
    told = options.kv_cache_memory_bytes  # of each GPU, or of the CPU
    held_by = [
        msgspec.structs.replace(each, cache=told) if each.weights.high else each
        for each in found.shares
    ]
    return msgspec.structs.replace(found, shares=tuple(held_by))


def _in_server(
    spec: ModelSpec, files: ModelFiles | None, options: OpenAIOptions, shares: tuple[float, ...]
) -> Footprint | None:
    """Of a known server, as it is started when nothing more is said. Raises ModelError."""
    if options.server not in _BESIDE:
        return None
    size = _size_in_gguf(spec, files)
    longest = size.layers.max_context if size.layers else None
    context = options.context_tokens or min(USUAL_CONTEXT, longest or USUAL_CONTEXT)
    engine = llama_cpp_footprint(size, LlamaCppOptions(n_ctx=context), shares)
    beside = Share(device=RAM, overhead=_BESIDE[options.server])
    return engine.with_another(Footprint(context_tokens=context, shares=(beside,)))


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
    kind = spec.quantization or "INT4"
    planned = ENGINES["onnxruntime"]
    if kind not in planned.known:
        raise UnsupportedModel(f"{kind} is no quantization of onnxruntime")
    return planned.size(named_config(spec)[1], kind)


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
