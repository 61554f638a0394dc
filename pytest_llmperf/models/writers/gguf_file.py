"""How is a synthetic model written as a GGUF file of plain numbers?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from pytest_llmperf.models import tokenizer
from pytest_llmperf.models.architecture import Architecture
from pytest_llmperf.models.quantization import find_quantization
from pytest_llmperf.models.writers.weights import DTYPES, Draw, pair_rows

_ROPE_FACTORS = "rope_freqs.weight"


def write_gguf(
    path: Path,
    architecture: Architecture,
    name: str,
    kind: str,
    draw: Draw,
    progress: Callable[[float], None],
) -> None:
    """Write ``architecture`` to ``path``, with the numbers that ``draw`` gives.

    ``kind`` is the plain type of the matrices; vectors are float32, as llama.cpp has them.
    ``progress`` is called with the fraction of the parameters that is written.
    """
    writer = gguf.GGUFWriter(path, architecture.gguf_name)
    _add_metadata(writer, architecture, name, kind)
    kinds = [kind if len(tensor.shape) > 1 else "F32" for tensor in architecture.tensors]
    for tensor, its_kind in zip(architecture.tensors, kinds, strict=True):
        dtype = DTYPES[its_kind]
        raw = gguf.GGMLQuantizationType[its_kind]
        writer.add_tensor_info(
            tensor.gguf_name, tensor.shape, dtype, tensor.elements * dtype.itemsize, raw
        )
    factors = np.array(architecture.rope_factors, "<f4")
    if factors.size:
        writer.add_tensor_info(_ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    written, total = 0, architecture.parameters
    for tensor, numbers in zip(
        architecture.tensors, draw(architecture.tensors, kinds), strict=True
    ):
        writer.write_tensor_data(pair_rows(numbers, tensor.heads) if tensor.heads else numbers)
        written += tensor.elements
        progress(written / total)
    if factors.size:
        writer.write_tensor_data(factors)
    writer.close()


def _add_metadata(
    writer: gguf.GGUFWriter, architecture: Architecture, name: str, kind: str
) -> None:
    writer.add_name(name)
    writer.add_description("written by pytest-llmperf")
    writer.add_file_type(find_quantization(kind).ftype)
    for key, value in architecture.metadata.items():
        full = f"{architecture.gguf_name}.{key}"
        if isinstance(value, str):
            writer.add_string(full, value)
        elif isinstance(value, float):
            writer.add_float32(full, value)
        else:
            writer.add_uint32(full, value)
    vocab_size = architecture.metadata["vocab_size"]
    assert isinstance(vocab_size, int)
    kinds = [int(gguf.TokenType.NORMAL)] * vocab_size
    kinds[tokenizer.BOS_ID] = kinds[tokenizer.EOS_ID] = int(gguf.TokenType.CONTROL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokenizer.tokens(vocab_size))
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(tokenizer.MERGE)])
    writer.add_bos_token_id(tokenizer.BOS_ID)
    writer.add_eos_token_id(tokenizer.EOS_ID)
    writer.add_pad_token_id(tokenizer.EOS_ID)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
