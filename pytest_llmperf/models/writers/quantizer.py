"""How does llama.cpp's own quantizer make a quantized file from a plain one?"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable
from pathlib import Path

import llama_cpp

from pytest_llmperf.models.errors import BuildFailed
from pytest_llmperf.models.quantization import Quantization
from pytest_llmperf.models.writers.weights import cores

_TENSOR_LINE = re.compile(r"\[ *(\d+)/ *(\d+)\]")


def quantize(
    source: Path, target: Path, quantization: Quantization, progress: Callable[[float], None]
) -> None:
    """Quantize ``source`` to ``target`` on all cores this process may use.

    ``progress`` is called with the fraction of the tensors that is done. llama.cpp's log goes to
    standard error. Raises BuildFailed when llama.cpp refuses.
    """

    def log(_level: int, text: bytes, _data: object) -> None:
        line = text.decode(errors="replace")
        sys.stderr.write(line)
        match = _TENSOR_LINE.match(line)
        if match:
            progress((int(match[1]) - 1) / int(match[2]))

    callback = llama_cpp.llama_log_callback(log)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = quantization.ftype
    params.nthread = cores()
    llama_cpp.llama_backend_init()
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(params)
    )
    if status != 0:
        sys.stderr.flush()
        raise BuildFailed(
            f"llama.cpp {llama_cpp.__version__} could not quantize to {quantization.name}"
        )
