"""How many bytes of weights does a model have, and which of them go with which layer?

By the tensors themselves where there are files; by the config and llama.cpp's mix of types for
files that do not exist yet.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from pytest_llmperf.models import architecture
from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.gguf import GgufTensor
from pytest_llmperf.models.layers import FullAttention, Layers, SlidingAttention
from pytest_llmperf.models.layers_hf import language_config, layers_of_config
from pytest_llmperf.models.parameter_parts import Parameters
from pytest_llmperf.models.parameters import parameters_of_config
from pytest_llmperf.models.quantization import find_quantization
from pytest_llmperf.models.quantized import OUTPUT, TABLE, Place, stored_type
from pytest_llmperf.models.tensor_types import BlockType

_LAYER = re.compile(r"blk\.(?P<layer>\d+)\.(?P<part>.+?)(?:\.weight|\.bias)?")
_EXPERTS = re.compile(r"\.ffn_\w+_exps\.")
_TABLES = ("token_embd.", "position_embd.", "token_types.", "per_layer_token_embd.")
_VECTOR_BYTES = 4  # norms and biases stay in F32
_INNER = ("moe_intermediate_size", "intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
_MXFP4_BITS = 4.25
_DOUBT = 0.03
"""More than any published file was off by whose layers are not llama's: test_weights.py."""


_F32_BYTES = 4


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes as they are stored, by what an engine may put on different devices."""

    tables: int
    """Looked up by token or position; llama.cpp leaves them in main memory."""
    layers: tuple[int, ...]
    experts: int = 0
    """Bytes of ``layers`` that are routed experts', of which a token uses some."""
    output: int
    """The output matrix and what stands around it; of a tied model only the latter."""
    tied: int = 0
    """Bytes of ``tables`` that are the output matrix as well."""
    types: dict[str, int]
    """Bytes of the matrices that are multiplied with, by GGML type."""
    doubt: float = 0.0
    """Share by which the layers may differ from this; 0: every tensor is known."""

    @property
    def total(self) -> int:
        """All of it, once."""
        return self.tables + sum(self.layers) + self.output


def weights_of_tensors(tensors: Iterable[GgufTensor]) -> Weights:
    """The weights of a GGUF model, from the headers of all its shards."""
    layers: Counter[int] = Counter()
    types: Counter[str] = Counter()
    tables = output = table = experts = 0
    is_tied, table_type = True, ""
    for each in tensors:
        layer = _LAYER.fullmatch(each.name)
        if each.name.startswith(_TABLES):
            tables += each.bytes
            if each.name == "token_embd.weight":
                table, table_type = each.bytes, each.type_name
            continue
        if layer:
            layers[int(layer["layer"])] += each.bytes
            experts += each.bytes if _EXPERTS.search(each.name) else 0
        else:
            output += each.bytes
            is_tied &= each.name != "output.weight"
        if len(each.shape) > 1:
            types[each.type_name] += each.bytes
    if is_tied and table:
        types[table_type] += table
    return Weights(
        tables=tables,
        layers=tuple(layers[index] for index in range(max(layers, default=-1) + 1)),
        experts=experts,
        output=output,
        tied=table if is_tied else 0,
        types=dict(types),
    )


def weights_as_gguf(config: ModelConfig, quantization: str) -> Weights:
    """The weights that a GGUF file of this model and quantization would have.

    Exact where the model's tensors are known one by one, else with a ``doubt``. Raises
    UnknownQuantization, BrokenModelFile naming a field, UnsupportedModel.
    """
    config = language_config(config)
    layers = layers_of_config(config)
    if config.model_type in architecture.MODEL_TYPES:
        return weights_of_tensors(_tensors(config, layers, quantization))
    parameters = parameters_of_config(config)
    of_matrices, of_experts = _bits(config, layers, quantization)
    # gpt-oss was published with its experts in this type; files of it keep them, whatever the rest.
    is_mxfp4 = find_quantization(quantization).name == "MXFP4_MOE" or config.model_type == "gpt_oss"
    table = stored_type(
        quantization, Place(part=OUTPUT if layers.tied else TABLE, columns=layers.hidden)
    )
    output = stored_type(quantization, Place(part=OUTPUT, columns=layers.hidden))
    return _spread(
        layers,
        parameters,
        table_bytes=_bytes(table, parameters.embedding),
        matrix_bits=of_matrices,
        expert_bits=_MXFP4_BITS if is_mxfp4 else of_experts,
        vector_bits=8 * _VECTOR_BYTES,
        output_bytes=_bytes(output, parameters.output),
        doubt=_DOUBT,
    )


def weights_as_loaded(
    config: ModelConfig, element_bytes: float, plain_bytes: float | None = None
) -> Weights:
    """The weights that transformers holds of this model: the layers' matrices in one type.

    ``plain_bytes``: of a number in tables, norms and the output, which quantizers leave as they
    are; None: the same type. Raises BrokenModelFile naming a field, UnsupportedModel.
    """
    config = language_config(config)
    parameters = parameters_of_config(config)
    plain = element_bytes if plain_bytes is None else plain_bytes
    return _spread(
        layers_of_config(config),
        parameters,
        table_bytes=round(parameters.embedding * plain),
        matrix_bits=8 * element_bytes,
        expert_bits=8 * element_bytes,
        vector_bits=8 * plain,
        output_bytes=round(parameters.output * plain),
    )


def weights_as_onnx(config: ModelConfig, element_bytes: float) -> Weights:
    """The weights of a folder of onnxruntime-genai: matrices packed, all others in four bytes.

    A table that is the output as well is packed like it. Raises as ``weights_as_loaded``.
    """
    config = language_config(config)
    layers, parameters = layers_of_config(config), parameters_of_config(config)
    table_bytes = element_bytes if layers.tied else _F32_BYTES
    return _spread(
        layers,
        parameters,
        table_bytes=round(parameters.embedding * table_bytes),
        matrix_bits=8 * element_bytes,
        expert_bits=8 * element_bytes,
        vector_bits=8 * _F32_BYTES,
        output_bytes=round(parameters.output * element_bytes),
    )


def inner_length(config: ModelConfig, layers: Layers) -> int:
    """Width of an MLP, in numbers; where the config does not say, four times the model's own."""
    stated = (config.count(each) for each in _INNER if config.values.get(each))
    return next(stated, 4 * layers.hidden)


def _spread(  # noqa: PLR0913 - each part of a model has its own size
    layers: Layers,
    parameters: Parameters,
    *,
    table_bytes: int,
    matrix_bits: float,
    expert_bits: float,
    vector_bits: float,
    output_bytes: int,
    doubt: float = 0.0,
) -> Weights:
    """All layers alike: of a model whose first ones have no experts, these come out too large."""
    count, experts = len(layers.layers), round(parameters.experts * expert_bits / 8)
    rest = parameters.matrices * matrix_bits + parameters.norms_and_biases * vector_bits
    return Weights(
        tables=table_bytes,
        layers=(round((rest / 8 + experts) / count),) * count,
        experts=experts,
        output=output_bytes,
        tied=table_bytes if layers.tied else 0,
        types={},
        doubt=doubt,
    )


def _tensors(
    config: ModelConfig, layers: Layers, quantization: str, experts: int = 0
) -> list[GgufTensor]:
    attention = layers.layers[0]
    assert isinstance(attention, FullAttention | SlidingAttention)
    found = []
    for each in architecture.lay_out(config).tensors:
        layer = _LAYER.fullmatch(each.gguf_name)
        part = layer["part"] if layer else each.gguf_name.partition(".")[0]
        if part == TABLE and layers.tied:
            part = OUTPUT
        place = Place(
            part=part,
            columns=each.shape[-1],
            layer=int(layer["layer"]) if layer else 0,
            layers=len(layers.layers),
            sharing=layers.heads // attention.kv_heads,
            experts=experts,
        )
        vector = BlockType("F32", 1, _VECTOR_BYTES)
        kind = stored_type(quantization, place) if len(each.shape) > 1 else vector
        found.append(
            GgufTensor(
                each.gguf_name, each.shape[::-1], 0, kind.name, 0, _bytes(kind, each.elements)
            )
        )
    return found


def _bits(config: ModelConfig, layers: Layers, quantization: str) -> tuple[float, float]:
    """Bits per weight of the matrices, and of an MLP, of a llama with rows as long as this model's.

    It is the length of rows, and the places of values and downward matrices, that decide types.
    Of a model with experts, whose MLPs they are, the matrices are those of attention.
    """
    llama = {
        "model_type": "llama",
        "vocab_size": layers.vocab,
        "hidden_size": layers.hidden,
        "intermediate_size": inner_length(config, layers),
        "num_hidden_layers": len(layers.layers),
        "num_attention_heads": 1,
        "head_dim": layers.hidden,
        "max_position_embeddings": 1,
    }
    like = ModelConfig(config.origin, llama)
    experts = layers.experts.total if layers.experts else 0
    tensors = [
        each
        for each in _tensors(like, layers_of_config(like), quantization, experts)
        if each.name.startswith("blk.") and len(each.shape) > 1
    ]
    mlp = [each for each in tensors if ".ffn_" in each.name]
    others = [each for each in tensors if ".ffn_" not in each.name] if experts else tensors
    return _mean_bits(others), _mean_bits(mlp)


def _mean_bits(tensors: Sequence[GgufTensor]) -> float:
    return sum(each.bytes for each in tensors) * 8 / sum(each.elements for each in tensors)


def _bytes(kind: BlockType, elements: int) -> int:
    return math.ceil(elements / kind.elements) * kind.bytes
