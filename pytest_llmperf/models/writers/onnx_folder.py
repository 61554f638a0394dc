"""How does a Hugging Face folder become one that onnxruntime-genai loads?"""

from __future__ import annotations

import tempfile
from pathlib import Path

from onnxruntime_genai.models.builder import create_model, parse_extra_options

from pytest_llmperf.models.errors import UnsupportedModel

PRECISIONS = {"F32": "fp32", "INT4": "int4"}
"""By quantization; what the CPU of onnxruntime computes."""


def write_onnx_folder(source: Path, target: Path, kind: str) -> None:
    """Convert with onnxruntime-genai's own model builder, for the CPU.

    Raises UnsupportedModel for an architecture that it does not know.
    """
    precision = PRECISIONS[kind]
    with tempfile.TemporaryDirectory(dir=target) as cache:
        places = ("", str(source), str(target), precision, "cpu", cache)
        try:
            create_model(*places, **parse_extra_options(*places, []))
        except NotImplementedError as error:
            raise UnsupportedModel(
                f"onnxruntime-genai's model builder does not make {source.name}: {error}"
            ) from error
