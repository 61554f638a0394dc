from __future__ import annotations

from typing import Any

import gguf
import pytest

from pytest_llmperf.models import BrokenModelFile, UnknownModel, UnsupportedModel
from pytest_llmperf.models.architecture import MODEL_TYPES, lay_out
from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.presets import PRESETS, find_preset
from tests.unit.models.conftest import TINY

PARAMETERS = {  # as the published safetensors files have them
    "llama-15m": 15_191_712,
    "llama-160m": 162_417_408,
    "tinyllama-1.1b": 1_100_048_384,
    "qwen3-0.6b": 596_049_920,
    "phi-2": 2_779_683_840,
    "mistral-7b": 7_241_732_096,
    "llama-2-7b": 6_738_415_616,
}


def test_presets_have_the_published_number_of_parameters() -> None:
    laid_out = {name: lay_out(ModelConfig(name, config)) for name, config in PRESETS.items()}
    assert {name: one.parameters for name, one in laid_out.items()} == PARAMETERS
    assert not [one.gguf_obstacle for one in laid_out.values() if one.gguf_obstacle]


def test_an_unknown_preset_names_the_nearest_and_all() -> None:
    with pytest.raises(UnknownModel, match=r"'mistal-7b'.*mean mistral-7b\?.*llama-15m, .*phi-2"):
        find_preset("mistal-7b")


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_names_are_those_of_the_reference_package(model_type: str) -> None:
    config = TINY | {"model_type": model_type, "attention_bias": True, "mlp_bias": True}
    architecture = lay_out(ModelConfig("test", config))
    number = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}[architecture.gguf_name]
    names = gguf.get_tensor_name_map(number, config["num_hidden_layers"])
    for tensor in architecture.tensors:
        assert names.get_name(tensor.name, (".weight", ".bias")) == tensor.gguf_name
    assert len({tensor.gguf_name for tensor in architecture.tensors}) == len(architecture.tensors)


@pytest.mark.parametrize(
    "field", ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "model_type"]
)
def test_a_missing_or_wrong_field_is_named(field: str) -> None:
    for value in (None, -1, "12.5", 1.5, True) if field != "model_type" else (None, 3):
        with pytest.raises(BrokenModelFile, match=f"here: field '{field}' is"):
            lay_out(ModelConfig("here", TINY | {field: value}))


def test_an_unsupported_model_type_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match=r"'gpt_neox' cannot.*Supported: llama, mistral"):
        lay_out(ModelConfig("here", TINY | {"model_type": "gpt_neox"}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rotary scaling 'yarn'"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "rotary scaling 'dynamic'"),
        ({"hidden_act": "relu"}, "activation is 'relu'"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "sliding window"),
        ({"model_type": "qwen2", "head_dim": 32}, "no separate head_dim"),
        ({"model_type": "phi", "qk_layernorm": True}, "query and key norms"),
        ({"model_type": "phi", "tie_word_embeddings": True}, "no tied embeddings"),
    ],
)
def test_what_llama_cpp_would_run_wrongly_is_not_written(
    changes: dict[str, Any], reason: str
) -> None:
    assert reason in lay_out(ModelConfig("here", TINY | changes)).gguf_obstacle
