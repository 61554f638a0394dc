"""Are the types that a quantizer will choose those that it chooses?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.models import ModelSpec, UnknownQuantization, resolve
from pytest_llmperf.models.config import read_config
from pytest_llmperf.models.gguf import read_gguf
from pytest_llmperf.models.quantized import OUTPUT, Place, plannable, stored_type
from pytest_llmperf.models.weights import weights_as_gguf, weights_of_tensors
from tests.unit.models.conftest import ConfigWriter

WHOLE_BLOCKS = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8}
LAYERS_OF_MANY_KINDS = {"num_hidden_layers": 17, "num_key_value_heads": 2}
SHAPES: dict[str, dict[str, Any]] = {
    "whole blocks": WHOLE_BLOCKS | LAYERS_OF_MANY_KINDS,
    "one key head per query": WHOLE_BLOCKS | {"num_key_value_heads": 8, "num_hidden_layers": 3},
    "rows of 160, tied": {"model_type": "qwen2", "tie_word_embeddings": True},
}


@pytest.mark.engine
@pytest.mark.parametrize("shape", SHAPES)
def test_types_are_those_of_the_quantizer(tiny: ConfigWriter, shape: str) -> None:
    """Every mix of llama.cpp's own quantizer, tensor by tensor."""
    source = tiny(**SHAPES[shape])
    config = read_config(Path(source.removeprefix("synthetic:")))
    for quantization in plannable():
        if quantization == "MXFP4_MOE":
            continue  # for experts, which synthetic GGUF files do not have
        built = resolve(ModelSpec(source, quantization), "gguf")
        found = weights_of_tensors(read_gguf(Path(built.path)).tensors)
        assert weights_as_gguf(config, quantization) == found, quantization


def place(part: str, **facts: Any) -> Place:
    return Place(part=part, columns=facts.pop("columns", 4096), layers=32, **facts)


@pytest.mark.parametrize(
    ("part", "facts", "kind"),
    [
        ("attn_k", {}, "Q4_K"),
        ("attn_v", {"layer": 3}, "Q6_K"),
        ("attn_v", {"layer": 5}, "Q4_K"),
        ("attn_v", {"layer": 6}, "Q6_K"),
        ("ffn_down", {"layer": 28}, "Q6_K"),
        ("attn_qkv", {}, "Q5_K"),
        (OUTPUT, {}, "Q6_K"),
        (OUTPUT, {"columns": 96}, "Q8_0"),
        ("ffn_up", {"columns": 96}, "Q5_0"),
        ("ffn_up", {"columns": 48}, "F16"),
        ("attn_v", {"experts": 8}, "Q8_0"),
        ("attn_k", {"experts": 8}, "Q8_0"),
        ("attn_output", {"experts": 8}, "Q5_K"),
        ("attn_output", {"experts": 4}, "Q4_K"),
    ],
)
def test_a_mix_by_place(part: str, facts: dict[str, Any], kind: str) -> None:
    assert stored_type("Q4_K_M", place(part, **facts)).name == kind


def test_models_of_70_billion_keep_values_better() -> None:
    large = Place(part="attn_v", columns=8192, layer=31, layers=80, sharing=8)
    assert stored_type("Q4_K_M", large).name == "Q5_K"
    assert stored_type("Q3_K_S", large).name == "Q5_K"
    assert stored_type("Q8_0", large).name == "Q8_0"


def test_a_mix_that_is_not_known_names_those_that_are() -> None:
    with pytest.raises(UnknownQuantization, match=r"a file of IQ2_XS mixes .* Known: F32, F16"):
        stored_type("IQ2_XS", place("attn_q"))
