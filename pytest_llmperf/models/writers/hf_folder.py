"""How is a synthetic model written as a Hugging Face folder, without any engine?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_llmperf.models import tokenizer
from pytest_llmperf.models.architecture import Architecture
from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.safetensors import SINGLE
from pytest_llmperf.models.writers.weights import DTYPES, Draw

TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""PyTorch's name of each plain type."""


def write_side_files(folder: Path, config: ModelConfig, kind: str) -> None:
    """Write the config and the tokenizer: everything but the weights.

    The generation config names no end-of-text token, so that generation ends by count alone.
    """
    tokens = {"bos_token_id": tokenizer.BOS_ID, "pad_token_id": tokenizer.EOS_ID}
    values = {key: value for key, value in config.values.items() if key != "torch_dtype"}
    values |= tokens | {"eos_token_id": tokenizer.EOS_ID, "dtype": TORCH_NAMES[kind]}
    _write(folder / "config.json", values)
    _write(folder / "generation_config.json", {"_from_model_config": False, **tokens})
    vocab_size = config.count("vocab_size")
    _write(folder / "tokenizer.json", tokenizer.tokenizer_json(vocab_size))
    context = config.count("max_position_embeddings", config.count("n_positions", 2048))
    _write(folder / "tokenizer_config.json", tokenizer.tokenizer_config(context))


def write_weights(
    folder: Path,
    architecture: Architecture,
    kind: str,
    draw: Draw,
    progress: Callable[[float], None],
) -> None:
    """Write all weights as one safetensors file of the plain type ``kind``.

    ``draw`` gives the numbers; ``progress`` is called with the fraction that is written.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in architecture.tensors:
        begin, end = end, end + tensor.elements * DTYPES[kind].itemsize
        header[tensor.name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    written, total = 0, architecture.parameters
    kinds = [kind] * len(architecture.tensors)
    with (folder / SINGLE).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor, numbers in zip(
            architecture.tensors, draw(architecture.tensors, kinds), strict=True
        ):
            file.write(numbers.data)
            written += tensor.elements
            progress(written / total)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
