"""How large is a model, part by part: by its files, or by a config if there are no files yet?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from pytest_llmperf.models.config import ModelConfig, read_config
from pytest_llmperf.models.errors import BrokenModelFile, UnsupportedModel
from pytest_llmperf.models.gguf import GgufHeader, read_gguf
from pytest_llmperf.models.layers import Layers
from pytest_llmperf.models.layers_gguf import GgufFacts, as_converted, layers_of_gguf
from pytest_llmperf.models.layers_hf import language_config, layers_of_config
from pytest_llmperf.models.parameters import parameters_of_config
from pytest_llmperf.models.spec import ModelFiles
from pytest_llmperf.models.step import Traffic
from pytest_llmperf.models.traffic import traffic_of
from pytest_llmperf.models.traffic_planned import traffic_planned
from pytest_llmperf.models.weight_files import weight_paths
from pytest_llmperf.models.weights import (
    Weights,
    inner_length,
    weights_as_gguf,
    weights_as_loaded,
    weights_of_tensors,
)

_COMPOSED = ("gelu_new", "gelu_fast", "quick_gelu")
_ACTIVATIONS = {"gpt2": "gelu_new", "phi": "gelu_new", "gptj": "gelu_new", "bloom": "gelu_new"}
"""Where a config leaves it out."""
_UNGATED = ("opt", "falcon", "gpt_neox", "gpt2", "phi", "gptj", "bloom")
_ENTRY_BYTES = 24
"""Of a token in a GGUF header: the lengths of its text, the text, a score, a type."""


class TorchStyle(msgspec.Struct, frozen=True, kw_only=True):
    """What of transformers' way of computing a model shows in its memory.

    Source: its modeling files of release 5.23.
    """

    mlp: Literal["gated", "plain", "composed"] = "gated"
    """Composed: the activation is made of several operations, each with a result of its own."""
    changes_scores: bool = False
    """Scores are capped, or a bias is added to them, each with a result of its own."""
    never_fuses: bool = False
    """Scores are held even under fused attention: all query heads share one key head."""

    @classmethod
    def of(cls, config: ModelConfig) -> TorchStyle:
        """Of a language model's config."""
        values, kind = config.values, config.model_type
        named = [values.get(key) for key in ("hidden_act", "activation_function")]
        activation = next((each for each in named if each), _ACTIVATIONS.get(kind))
        plain: Literal["gated", "plain"] = "plain" if kind in _UNGATED else "gated"
        return cls(
            mlp="composed" if activation in _COMPOSED else plain,
            changes_scores=kind in ("gemma2", "bloom") or bool(values.get("alibi")),
            never_fuses=kind == "falcon" and bool(values.get("multi_query", True)),
        )


class ModelSize(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a model, in one quantization, that memory and speed follow from."""

    weights: Weights
    layers: Layers | None
    """None: what its layers keep is not known."""
    inner: int = 0
    """Width of its widest MLP, in numbers."""
    header_bytes: int = 0
    """Of weight files, beside the weights: the vocabulary, mostly."""
    style: TorchStyle = TorchStyle()
    traffic: Traffic | None = None
    """What a step reads; None: not known, or not asked for."""
    notes: tuple[str, ...] = ()
    """What could not be told, and why."""


def size_of_files(files: ModelFiles) -> ModelSize:
    """The sizes of a model on this machine, by its headers alone; its traffic is left out.

    Raises BrokenModelFile or ModelNotHere when the files are no longer what they were.
    """
    return _size_of_gguf(files) if files.format == "gguf" else _size_of_folder(files)


def with_traffic(size: ModelSize, files: ModelFiles) -> ModelSize:
    """The same, with what a step reads."""
    traffic = traffic_of(files)
    if isinstance(traffic, str):
        return msgspec.structs.replace(size, notes=(*size.notes, traffic))
    return msgspec.structs.replace(size, traffic=traffic)


def size_as_gguf(config: ModelConfig, quantization: str) -> ModelSize:
    """The sizes that a GGUF file of this model and quantization would have.

    Raises BrokenModelFile naming a field, UnsupportedModel, UnknownQuantization.
    """
    config = language_config(config)
    layers = as_converted(layers_of_config(config), config.model_type)
    weights = weights_as_gguf(config, quantization)
    return ModelSize(
        weights=weights,
        layers=layers,
        inner=inner_length(config, layers),
        header_bytes=layers.vocab * _ENTRY_BYTES,
        traffic=traffic_planned(layers, parameters_of_config(config), weights),
    )


def size_as_loaded(
    config: ModelConfig, element_bytes: float, plain_bytes: float | None = None
) -> ModelSize:
    """The sizes of a model as transformers and vLLM hold it: the layers' matrices in one type.

    ``plain_bytes`` as in ``weights_as_loaded``. Raises BrokenModelFile naming a field,
    UnsupportedModel.
    """
    config = language_config(config)
    layers = layers_of_config(config)
    weights = weights_as_loaded(config, element_bytes, plain_bytes)
    return ModelSize(
        weights=weights,
        layers=layers,
        inner=inner_length(config, layers),
        style=TorchStyle.of(config),
        traffic=traffic_planned(layers, parameters_of_config(config), weights),
    )


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


def scaled(size: ModelSize, factor: float) -> ModelSize:
    """The same model with all its weights so much larger."""
    old = size.weights
    weights = msgspec.structs.replace(
        old,
        tables=round(old.tables * factor),
        layers=tuple(round(each * factor) for each in old.layers),
        experts=round(old.experts * factor),
        output=round(old.output * factor),
        tied=round(old.tied * factor),
    )
    return msgspec.structs.replace(size, weights=weights)


def _told(read: Callable[[], Layers]) -> tuple[Layers | None, tuple[str, ...]]:
    try:
        return read(), ()
    except (UnsupportedModel, BrokenModelFile) as error:
        return None, (f"what its layers keep is not known: {error}",)
