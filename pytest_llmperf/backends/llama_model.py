"""How does llama.cpp load a model file, and where to?"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.backends.protocol import EngineRefused

if TYPE_CHECKING:
    from pytest_llmperf.backends.llama_cpp import LlamaCppOptions

_SPLIT_MODES = {"none": 0, "layer": 1, "row": 2}  # enum llama_split_mode in llama.h
_AMONG_GPUS = ("split_mode", "main_gpu", "tensor_split")
_LOCKED_SHARE = 0.9  # of the weights; some tensors are copied into another order, unlocked


def load_model(lib: Any, path: str, options: LlamaCppOptions) -> Any:
    """A llama_model. Raises EngineRefused."""
    params = lib.llama_model_default_params()
    params.n_gpu_layers = options.n_gpu_layers
    if hasattr(params, "use_mmap"):
        params.use_mmap, params.use_mlock = options.use_mmap, options.use_mlock
    else:  # newer bindings name the way of loading instead of two flags
        params.load_mode = {
            (False, False): lib.LLAMA_LOAD_MODE_NONE,
            (True, False): lib.LLAMA_LOAD_MODE_MMAP,
            (False, True): lib.LLAMA_LOAD_MODE_MLOCK,
            (True, True): lib.LLAMA_LOAD_MODE_MMAP_MLOCK,
        }[options.use_mmap, options.use_mlock]
    shares = _share_among_gpus(lib, params, options)
    model = lib.llama_model_load_from_file(path.encode(), params)
    del shares  # params only pointed to it
    if not model:
        raise EngineRefused(f"llama.cpp could not load {path}; its log says why")
    if options.use_mlock:
        on_cpu = options.n_gpu_layers == 0 or not lib.llama_supports_gpu_offload()
        weights = int(lib.llama_model_size(model)) if on_cpu else 1
        why = why_not_locked(locked_bytes(), weights)
        if why is not None:
            raise EngineRefused(why)
    return model


def _share_among_gpus(lib: Any, params: Any, options: LlamaCppOptions) -> Any:
    """Fill in what several GPUs get; the array that ``params`` points to."""
    given = {name: getattr(options, name) for name in _AMONG_GPUS}
    for name, value in given.items():
        if value is not None and not lib.llama_supports_gpu_offload():
            raise EngineRefused(f"{name}={value} needs a build of llama.cpp with GPUs")
    if options.split_mode is not None:
        params.split_mode = _SPLIT_MODES[options.split_mode]
    if options.main_gpu is not None:
        params.main_gpu = options.main_gpu
    if options.tensor_split is None:
        return None
    most = int(lib.llama_max_devices())
    shares = (ctypes.c_float * most)(*read_tensor_split(options.tensor_split, most))
    params.tensor_split = ctypes.cast(shares, type(params.tensor_split))
    return shares


def read_tensor_split(text: str, most: int) -> list[float]:
    """``3,1``: what each GPU gets, in parts. Raises EngineRefused."""
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if not shares or len(shares) > most or min(shares) < 0 or not any(shares):
        raise EngineRefused(
            f"tensor_split={text} is not of the form 3,1: a part for each GPU, of at most {most}"
        )
    return shares


def why_not_locked(locked: int | None, wanted: int) -> str | None:
    """What to say when so many bytes are locked: llama.cpp itself only warns, and goes on.

    Where the system does not tell what is locked, llama.cpp's log is all there is.
    """
    if locked is None or locked >= _LOCKED_SHARE * wanted:
        return None
    return (
        f"use_mlock: {locked >> 20} MiB of {wanted >> 20} MiB of weights could be locked in "
        "memory; raise the limit (ulimit -l), or leave use_mlock out"
    )


def locked_bytes() -> int | None:
    """What this process has locked in memory; None: the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith("VmLck:")]
    return found[0] * 1024 if found else None
