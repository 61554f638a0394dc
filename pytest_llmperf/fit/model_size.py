"""How large is a model, part by part, by its config alone?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.layers import Layers
from pytest_llmperf.models.layers_gguf import as_converted
from pytest_llmperf.models.layers_hf import language_config, layers_of_config
from pytest_llmperf.models.parameters import parameters_of_config
from pytest_llmperf.models.step import Traffic
from pytest_llmperf.models.traffic_planned import traffic_planned
from pytest_llmperf.models.weights import (
    Weights,
    inner_length,
    weights_as_gguf,
    weights_as_loaded,
    weights_as_onnx,
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
    scores: Literal["plain", "capped", "biased"] = "plain"
    """Capped, or with a bias added: each operation has a result of its own."""
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
            scores=_scores(kind, values),
            never_fuses=kind == "falcon"
            and bool(values.get("multi_query", True))
            and not values.get("new_decoder_architecture", False),
        )


def _scores(kind: str, values: Mapping[str, Any]) -> Literal["plain", "capped", "biased"]:
    if kind == "bloom" or values.get("alibi"):
        return "biased"
    return "capped" if kind == "gemma2" else "plain"


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


def size_as_onnx(config: ModelConfig, element_bytes: float) -> ModelSize:
    """The sizes of a model as a folder of onnxruntime-genai. Raises as ``size_as_loaded``."""
    config = language_config(config)
    layers, weights = layers_of_config(config), weights_as_onnx(config, element_bytes)
    return ModelSize(
        weights=weights,
        layers=layers,
        inner=inner_length(config, layers),
        traffic=traffic_planned(layers, parameters_of_config(config), weights),
    )


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
