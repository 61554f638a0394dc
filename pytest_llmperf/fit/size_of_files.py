"""How large is a model that lies on this machine, part by part?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from pytest_llmperf.fit.model_size import ModelSize, TorchStyle, scaled
from pytest_llmperf.models.config import read_config
from pytest_llmperf.models.errors import BrokenModelFile, UnsupportedModel
from pytest_llmperf.models.gguf import GgufHeader, read_gguf
from pytest_llmperf.models.layers import FullAttention, Layers
from pytest_llmperf.models.layers_gguf import GgufFacts, layers_of_gguf
from pytest_llmperf.models.layers_hf import language_config, layers_of_config
from pytest_llmperf.models.onnx_folder import read_onnx_folder
from pytest_llmperf.models.spec import ModelFiles
from pytest_llmperf.models.step_parts import layer_of
from pytest_llmperf.models.traffic import traffic_of
from pytest_llmperf.models.weight_files import weight_paths
from pytest_llmperf.models.weights import (
    Weights,
    inner_length,
    weights_as_loaded,
    weights_of_tensors,
)


def size_of_files(files: ModelFiles) -> ModelSize:
    """The sizes of a model on this machine, by its headers alone; its traffic is left out.

    Raises BrokenModelFile or ModelNotHere when the files are no longer what they were.
    """
    match files.format:
        case "gguf":
            return _size_of_gguf(files)
        case "onnx":
            return _size_of_onnx(files)
        case "hf":
            return _size_of_folder(files)


def with_traffic(size: ModelSize, files: ModelFiles) -> ModelSize:
    """The same, with what a step reads."""
    traffic = traffic_of(files)
    if isinstance(traffic, str):
        return msgspec.structs.replace(size, notes=(*size.notes, traffic))
    return msgspec.structs.replace(size, traffic=traffic)


def _size_of_gguf(files: ModelFiles) -> ModelSize:
    paths = weight_paths(files)
    headers = [read_gguf(path) for path in paths]
    tensors = [tensor for header in headers for tensor in header.tensors]
    inner = headers[0].metadata.get(f"{files.architecture}.feed_forward_length")
    layers, notes = _told(lambda: layers_of_gguf(_facts(paths[0], headers)))
    return ModelSize(
        weights=weights_of_tensors(tensors),
        layers=layers,
        inner=inner if isinstance(inner, int) else 0,
        header_bytes=sum(path.stat().st_size for path in paths) - files.weight_bytes,
        notes=notes,
    )


def _facts(path: Path, headers: list[GgufHeader]) -> GgufFacts:
    return GgufFacts(
        origin=str(path),
        metadata=headers[0].metadata,
        arrays=headers[0].arrays,
        array_lengths=headers[0].array_lengths,
        tensor_names={tensor.name for header in headers for tensor in header.tensors},
    )


def _size_of_onnx(files: ModelFiles) -> ModelSize:
    model = read_onnx_folder(Path(files.path))
    is_tied = not any(each.is_table for each in model.tensors)
    own: Counter[int] = Counter()
    inner = 0
    for each in model.tensors:
        own[layer_of(each.name)] += each.bytes
        if ".mlp." in each.name and each.is_matrix:
            inner = max(inner, each.elements // model.hidden)
    tables = sum(
        each.bytes for each in model.tensors if (each.is_head if is_tied else each.is_table)
    )
    attention = FullAttention(model.kv_heads, model.head_size, model.head_size)
    return ModelSize(
        weights=Weights(
            tables=tables,
            layers=tuple(own[number] for number in range(model.layers)),
            output=files.weight_bytes - tables - sum(own[n] for n in range(model.layers)),
            tied=tables if is_tied else 0,
            types={},
        ),
        layers=Layers(
            hidden=model.hidden,
            vocab=model.vocab_size,
            heads=model.heads,
            layers=(attention,) * model.layers,
            max_context=model.context_length,
            tied=is_tied,
        ),
        inner=inner,
    )


def _size_of_folder(files: ModelFiles) -> ModelSize:
    """Layer by layer as the config states them, scaled to what the files really hold."""
    config = language_config(read_config(Path(files.path) / "config.json"))
    layers, notes = _told(lambda: layers_of_config(config))
    plain = Weights(tables=0, layers=(files.weight_bytes,), output=0, types={})
    if layers is None:
        return ModelSize(weights=plain, layers=None, notes=notes)
    spread = weights_as_loaded(config, 2.0)
    found = ModelSize(
        weights=spread,
        layers=layers,
        inner=inner_length(config, layers),
        style=TorchStyle.of(config),
    )
    return scaled(found, files.weight_bytes / spread.total)


def _told(read: Callable[[], Layers]) -> tuple[Layers | None, tuple[str, ...]]:
    try:
        return read(), ()
    except (UnsupportedModel, BrokenModelFile) as error:
        return None, (f"what its layers keep is not known: {error}",)
