"""Would this engine use a GPU here? Told by the files of its package; nothing is imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pytest_llmperf.backends import BackendOptions
from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.backends.transformers import TransformersOptions
from pytest_llmperf.fit.room import Room

_LLAMA_CPP = ("*ggml-cuda*", "*ggml-hip*", "*ggml-vulkan*", "*ggml-sycl*", "*ggml-metal*")
_TORCH = ("*torch_cuda*", "*torch_hip*", "*torch_xpu*")


def gpus_used(options: BackendOptions, room: Room) -> int:
    """Among how many GPUs of ``room`` the engine would share a model."""
    here = len(room.vram) or (1 if room.is_shared else 0)
    match options:
        case LlamaCppOptions(n_gpu_layers=0):
            return 0
        case LlamaCppOptions():
            return here if _has("llama_cpp", _LLAMA_CPP) else 0
        case TransformersOptions(device="cpu"):
            return 0
        case TransformersOptions():
            return min(here, 1) if _has("torch", _TORCH) or room.is_shared else 0
        case _:
            return 0


def _has(package: str, patterns: tuple[str, ...]) -> bool:
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations if found else None
    libraries = [Path(folder) / "lib" for folder in folders or ()]
    return any(any(library.glob(pattern)) for library in libraries for pattern in patterns)
