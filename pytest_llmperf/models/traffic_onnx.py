"""Which tensors of an ONNX decoder does one step read, and how large is its cache?"""

from __future__ import annotations

from pathlib import Path

from pytest_llmperf.models.onnx_folder import read_onnx_folder
from pytest_llmperf.models.spec import ModelFiles
from pytest_llmperf.models.step import Attention, Traffic
from pytest_llmperf.models.step_parts import Part, assemble


def traffic_of_onnx(files: ModelFiles) -> Traffic | str:
    """Read the graph again; a text says what is not told. Raises ModelError."""
    model = read_onnx_folder(Path(files.path))
    if model.routing is not None:
        return f"what a step reads is not known: how {model.routing} routes tokens is not read here"
    head_values = 2 * model.head_size
    return assemble(
        [
            Part(each.bytes, each.elements, matrix=each.is_matrix, head=each.is_head)
            for each in model.tensors
            if not each.is_table
        ],
        experts=0,
        experts_used=0,
        attention=[
            Attention(
                layers=model.layers,
                kv_values=model.kv_heads * head_values,
                query_values=model.heads * head_values,
            )
        ],
        tied=not any(each.is_table for each in model.tensors),
        notes=[],
    )
