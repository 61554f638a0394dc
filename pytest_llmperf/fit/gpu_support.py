"""Which GPUs would this engine use here? Told by the files of its package; nothing is imported."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from pytest_llmperf.backends import BackendOptions
from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.backends.transformers import TransformersOptions
from pytest_llmperf.backends.vllm import CPU_BUILD, Vllm, VllmOptions
from pytest_llmperf.fit.devices import shares_of
from pytest_llmperf.fit.room import Room

_LLAMA_CPP = ("*ggml-cuda*", "*ggml-hip*", "*ggml-vulkan*", "*ggml-sycl*", "*ggml-metal*")
_TORCH = ("*torch_cuda*", "*torch_hip*", "*torch_xpu*")
_LLAMA_CPP_FOLDER = "LLAMA_CPP_LIB_PATH"
"""Where llama-cpp-python looks for its library before its own folder."""


def gpu_shares(options: BackendOptions, room: Room) -> tuple[float, ...]:
    """What each GPU of ``room`` would take of a model, by number; none: the engine uses no GPU."""
    if not room.has_gpu:
        return ()
    match options:
        case LlamaCppOptions(n_gpu_layers=0) | TransformersOptions(device="cpu"):
            pass
        case LlamaCppOptions():
            return shares_of(room) if _has("llama_cpp", _LLAMA_CPP) else ()
        case TransformersOptions(device_map=str()):
            return shares_of(room) if _has("torch", _TORCH) else ()
        case TransformersOptions():
            return _one(options.device, room) if _has("torch", _TORCH) or room.is_shared else ()
        case VllmOptions(tensor_parallel_size=count) if Vllm.distribution != CPU_BUILD:
            return (1 / count,) * count  # it divides each layer evenly
    return ()


def _one(device: str, room: Room) -> tuple[float, ...]:
    """All on the GPU that is named, or on the first."""
    _, _, number = device.partition(":")
    chosen = int(number) if number.isdecimal() else 0
    return tuple(float(index == chosen) for index in range(max(1, len(room.vram), chosen + 1)))


def _has(package: str, patterns: tuple[str, ...]) -> bool:
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations if found else None
    libraries = [Path(folder) / "lib" for folder in folders or ()]
    if package == "llama_cpp" and os.environ.get(_LLAMA_CPP_FOLDER):
        libraries.append(Path(os.environ[_LLAMA_CPP_FOLDER]))
    return any(any(library.glob(pattern)) for library in libraries for pattern in patterns)
