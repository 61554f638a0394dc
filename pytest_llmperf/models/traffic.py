"""Which of a model's tensors does one step read, by the model's own headers?

Only headers and a config.json are read: milliseconds for any model.
"""

from __future__ import annotations

from collections.abc import Callable

from pytest_llmperf.models.errors import ModelError
from pytest_llmperf.models.formats import Format
from pytest_llmperf.models.spec import ModelFiles
from pytest_llmperf.models.step import Attention, Traffic, prefill_flops, step_bytes
from pytest_llmperf.models.traffic_gguf import traffic_of_gguf
from pytest_llmperf.models.traffic_hf import traffic_of_folder
from pytest_llmperf.models.traffic_onnx import traffic_of_onnx

__all__ = ["Attention", "Traffic", "prefill_flops", "step_bytes", "traffic_of"]


def traffic_of(files: ModelFiles) -> Traffic | str:
    """What steps of this model read and compute; a text says why that is not known.

    Reads the headers of the weight files again: ``files`` says what they are, not which tensors
    they hold.
    """
    try:
        return _READERS[files.format](files)
    except (ModelError, OSError) as error:
        return f"what a step reads is not known: {error}"


_READERS: dict[Format, Callable[[ModelFiles], Traffic | str]] = {
    "gguf": traffic_of_gguf,
    "hf": traffic_of_folder,
    "onnx": traffic_of_onnx,
}
