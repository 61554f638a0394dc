"""With which quantizations can each engine be planned, and at what footprint?"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.fit.devices import Devices
from pytest_llmperf.fit.footprint import Footprint
from pytest_llmperf.fit.llama_cpp import llama_cpp_footprint
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import ModelSize, size_as_gguf, size_as_loaded, size_as_onnx
from pytest_llmperf.fit.onnxruntime import onnxruntime_footprint
from pytest_llmperf.fit.transformers import PACKED, transformers_footprint
from pytest_llmperf.fit.vllm import vllm_footprint
from pytest_llmperf.models.config import ModelConfig

_ELEMENT_BYTES = {
    "F32": 4.0,
    "BF16": 2.0,
    "INT8": PACKED["int8"].element_bytes,
    "NF4": PACKED["nf4"].element_bytes,
    "INT4": 0.625,
}
"""Of a weight of a matrix, scales included: INT4 has a float32 for each 32 weights."""
_ACTIVATION_BYTES = {"F32": 4.0}
_UBATCH_TOKENS = 512


Sizer = Callable[[ModelConfig, str], ModelSize]
Footprinter = Callable[[ModelSize, str, Load, Devices], Footprint]


class PlannedEngine(msgspec.Struct, frozen=True, kw_only=True):
    """An engine as far as planning goes."""

    name: str
    quantizations: tuple[str, ...]
    """What a table shows, the largest first."""
    known: tuple[str, ...] = ()
    """All that can be asked for; of llama.cpp, all of its file types."""
    size: Sizer
    """Sizes of a model in a quantization."""
    footprint: Footprinter
    """Of a model in a quantization for a load on devices."""
    can_split: bool = False
    """Whether some of the layers can be on GPUs and others not."""
    all_on_gpus: bool = False
    """Where there are GPUs, none of the layers is anywhere else."""
    cpu_only: bool = False


def _in_llama_cpp(size: ModelSize, quantization: str, load: Load, devices: Devices) -> Footprint:
    del quantization  # its bytes are in the size
    options = LlamaCppOptions(
        n_ctx=load.context_tokens * load.sequences,
        n_seq_max=load.sequences,
        n_ubatch=_UBATCH_TOKENS,
        n_gpu_layers=devices.gpu_layers,
        flash_attn="on" if load.flash_attention else "off",
        type_k=load.cache_type,
        type_v=load.cache_type,
    )
    return llama_cpp_footprint(size, options, devices.shares, load=load)


def _in_transformers(size: ModelSize, quantization: str, load: Load, devices: Devices) -> Footprint:
    return transformers_footprint(
        size,
        load,
        element_bytes=_ACTIVATION_BYTES.get(quantization, 2.0),
        eager=not load.flash_attention,
        devices=devices,
    )


def _in_vllm(size: ModelSize, quantization: str, load: Load, devices: Devices) -> Footprint:
    return vllm_footprint(
        size,
        load,
        element_bytes=_ACTIVATION_BYTES.get(quantization, 2.0),
        tensor_parallel=devices.gpus,
    )


def _in_onnxruntime(size: ModelSize, quantization: str, load: Load, devices: Devices) -> Footprint:
    del quantization, devices
    return onnxruntime_footprint(size, load)


def _in_one_type(config: ModelConfig, quantization: str) -> ModelSize:
    """All matrices in one type, tables and output as transformers leaves them: in two bytes."""
    packed = _ELEMENT_BYTES[quantization]
    return size_as_loaded(config, packed, max(2.0, packed))


def _in_onnx_folder(config: ModelConfig, quantization: str) -> ModelSize:
    return size_as_onnx(config, _ELEMENT_BYTES[quantization])


ENGINES = {
    each.name: each
    for each in (
        PlannedEngine(
            name="llama-cpp",
            quantizations=("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M"),
            size=size_as_gguf,
            footprint=_in_llama_cpp,
            can_split=True,
        ),
        PlannedEngine(
            name="transformers",
            quantizations=("F32", "BF16", "INT8", "NF4"),
            known=("F32", "BF16", "INT8", "NF4"),
            size=_in_one_type,
            footprint=_in_transformers,
            can_split=True,
        ),
        PlannedEngine(
            name="onnxruntime",
            quantizations=("F32", "INT4"),
            known=("F32", "INT4"),
            size=_in_onnx_folder,
            footprint=_in_onnxruntime,
            cpu_only=True,
        ),
        PlannedEngine(
            name="vllm",
            quantizations=("BF16",),
            known=("F32", "BF16"),
            size=_in_one_type,
            footprint=_in_vllm,
            all_on_gpus=True,
        ),
    )
}
"""By the name of the backend."""
