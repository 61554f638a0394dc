"""What is in a folder that onnxruntime-genai loads: a graph, its weights and its settings?

The graph is read with the ``onnx`` package, without the weights beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_llmperf.models.errors import (
    BrokenModelFile,
    ModelNotHere,
    RequirementMissing,
    UnsupportedModel,
)

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

SETTINGS = "genai_config.json"
_INSTALL = "pip install 'pytest-llmperf[onnxruntime]'"
_NAMES = {"FLOAT": "F32", "FLOAT16": "F16", "BFLOAT16": "BF16"}
_ROUTING = ("MoE", "QMoE")
_ANGLES = ("cos_cache", "sin_cache")
"""Tables of rotary embeddings, of which a step reads a row."""


class OnnxTensor(msgspec.Struct, frozen=True, kw_only=True):
    """One matrix or vector; a packed one with its scales and zero points."""

    name: str
    type: str
    """``F32``, ``INT4`` …"""
    elements: int
    bytes: int
    is_matrix: bool
    is_packed: bool
    """Of fewer bits than a byte, or of one with scales."""
    is_table: bool
    """Rows of it are looked up, and nothing else is done with it."""
    is_head: bool


class OnnxModel(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder and what its settings say of it."""

    tensors: tuple[OnnxTensor, ...]
    routing: str | None
    """The operator that routes tokens to experts; None: there are no experts."""
    architecture: str
    vocab_size: int
    context_length: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int


def read_onnx_folder(folder: Path) -> OnnxModel:
    """Read settings and graph.

    Raises ModelNotHere when it is no such folder, BrokenModelFile when something is missing or
    damaged, RequirementMissing without the package that reads graphs, UnsupportedModel.
    """
    settings = _settings(folder)
    decoder = _section(folder, settings, "decoder")
    graph = _graph(graph_path(folder)).graph
    tensors = tuple(_tensors(graph, folder))
    if not any(each.is_matrix for each in tensors):
        raise BrokenModelFile.at(graph_path(folder), "holds no matrices")
    routing = sorted({node.op_type for node in graph.node if node.op_type in _ROUTING})
    return OnnxModel(
        tensors=tensors,
        routing=routing[0] if routing else None,
        architecture=str(settings.get("type", "unknown")),
        vocab_size=_count(folder, settings, "vocab_size"),
        context_length=_count(folder, settings, "context_length"),
        hidden=_count(folder, decoder, "hidden_size"),
        layers=_count(folder, decoder, "num_hidden_layers"),
        heads=_count(folder, decoder, "num_attention_heads"),
        kv_heads=_count(folder, decoder, "num_key_value_heads"),
        head_size=_count(folder, decoder, "head_size"),
    )


def graph_path(folder: Path) -> Path:
    """The decoder's graph. Raises BrokenModelFile, ModelNotHere."""
    name = _section(folder, _settings(folder), "decoder").get("filename")
    if not isinstance(name, str) or Path(name).name != name:
        problem = f"its decoder's filename is {name!r:.80}"
        raise BrokenModelFile.at(folder / SETTINGS, problem)
    if not (folder / name).is_file():
        raise BrokenModelFile.at(folder, f"{name} is missing")
    return folder / name


def weight_file_paths(folder: Path) -> list[Path]:
    """The graph, and the file beside it with the weights if there is one."""
    graph = graph_path(folder)
    beside = graph.with_name(graph.name + ".data")
    return [graph, beside] if beside.is_file() else [graph]


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    if not path.is_file():
        raise ModelNotHere(
            f"{folder} holds no {SETTINGS}. Make such a folder of a Hugging Face one: "
            "python -m onnxruntime_genai.models.builder -i FOLDER -o NEW -p int4 -e cpu."
        )
    try:
        found = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise BrokenModelFile.at(path, f"is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise BrokenModelFile.at(path, "is no JSON object")
    return _section(folder, found, "model")


def _section(folder: Path, settings: dict[str, Any], name: str) -> dict[str, Any]:
    found = settings.get(name)
    if not isinstance(found, dict):
        raise UnsupportedModel(
            f"{folder / SETTINGS} has no section {name!r}: no decoder-only model."
        )
    return found


def _count(folder: Path, settings: dict[str, Any], name: str) -> int:
    value = settings.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise BrokenModelFile.at(folder / SETTINGS, f"its {name} is {value!r:.80}")
    return value


def _graph(path: Path) -> ModelProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise RequirementMissing(
            f"reading {path} needs the package onnx ({error}): {_INSTALL}"
        ) from error
    try:
        return onnx.load_model(path, load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise BrokenModelFile.at(path, f"is no ONNX graph ({error})") from error


def _tensors(graph: GraphProto, folder: Path) -> Iterator[OnnxTensor]:
    stored = {each.name: each for each in graph.initializer if each.name not in _ANGLES}
    users = _users(graph)
    inside = {
        name for node in graph.node if _is_packed(node) for name in node.input[2:] if name in stored
    }
    for name, tensor in stored.items():
        if name in inside:
            continue
        packer = next((node for node in users.get(name, ()) if _is_packed(node)), None)
        parts = [name] if packer is None else [each for each in packer.input[1:] if each in stored]
        elements = math.prod(tensor.dims) if packer is None else _elements(packer)
        yield OnnxTensor(
            name=name,
            type=_type_name(tensor) if packer is None else f"INT{_attribute(packer, 'bits')}",
            elements=elements,
            bytes=sum(_bytes(stored[each], folder) for each in parts),
            is_matrix=packer is not None or len(tensor.dims) > 1,
            is_packed=packer is not None,
            is_table=all(node.op_type == "Gather" for node in users.get(name, ())),
            is_head=any("lm_head" in node.name for node in users.get(name, ())),
        )


def _users(graph: GraphProto) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _is_packed(node: NodeProto) -> bool:
    """Multiplies with a matrix of few bits: weights, scales, zero points."""
    return bool(node.op_type == "MatMulNBits")


def _elements(node: NodeProto) -> int:
    return _attribute(node, "K") * _attribute(node, "N")


def _attribute(node: NodeProto, name: str) -> int:
    return next((int(each.i) for each in node.attribute if each.name == name), 0)


def _type_name(tensor: TensorProto) -> str:
    import onnx

    name = str(onnx.TensorProto.DataType.Name(tensor.data_type))
    return _NAMES.get(name, name)


def _bytes(tensor: TensorProto, folder: Path) -> int:
    """As the graph states it, of weights beside it as of those inside. Raises BrokenModelFile."""
    stated = {each.key: each.value for each in tensor.external_data}
    if not stated:
        return len(tensor.SerializeToString())
    try:
        offset, length = int(stated.get("offset", "0")), int(stated["length"])
        size = (folder / Path(stated["location"]).name).stat().st_size
    except (KeyError, ValueError, OSError) as error:
        raise BrokenModelFile.at(
            folder, f"where {tensor.name:.80} lies is not told ({error})"
        ) from None
    if offset < 0 or length < 0 or offset + length > size:
        raise BrokenModelFile.at(folder, f"{tensor.name:.80} lies outside of its file")
    return length
