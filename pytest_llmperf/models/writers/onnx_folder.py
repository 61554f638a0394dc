"""How does a Hugging Face folder become one that onnxruntime-genai loads?"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from onnxruntime_genai.models.builder import create_model, parse_extra_options
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from pytest_llmperf.models.errors import UnsupportedModel

PRECISIONS = {"F32": "fp32", "INT4": "int4"}
"""By quantization; what the CPU of onnxruntime computes."""


def write_onnx_folder(source: Path, target: Path, kind: str) -> None:
    """Convert with onnxruntime-genai's own model builder, for the CPU.

    Raises UnsupportedModel for an architecture that it does not know.
    """
    architecture = _name_class(source)
    precision = PRECISIONS[kind]
    with tempfile.TemporaryDirectory(dir=target) as cache:
        places = ("", str(source), str(target), precision, "cpu", cache)
        try:
            create_model(*places, **parse_extra_options(*places, []))
        except NotImplementedError as error:
            raise UnsupportedModel(
                f"onnxruntime-genai's model builder does not make {architecture}: {error}"
            ) from error


def _name_class(source: Path) -> str:
    """The model's class, which the builder goes by; added to a config without it."""
    path = source / "config.json"
    config = json.loads(path.read_text())
    if not config.get("architectures"):
        config["architectures"] = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config["model_type"]]]
        path.write_text(json.dumps(config))
    return str(config["architectures"][0])
