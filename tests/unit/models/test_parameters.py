"""How many weights the published models have, and of which kinds."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmperf.models import BrokenModelFile, UnsupportedModel
from pytest_llmperf.models.catalogue import find, known
from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.parameter_parts import Parameters
from pytest_llmperf.models.parameters import parameters_of_config
from tests.unit.models.conftest import TINY

PUBLISHED = {  # a tied table once; of Gemma 3 4B and 12B the language model
    "tinyllama-1.1b": 1_100_048_384,
    "phi-2": 2_779_683_840,
    "mistral-7b": 7_241_732_096,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-3.1-8b": 8_030_261_248,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "gemma-3-1b": 999_885_952,
    "gemma-3-4b": 3_880_263_168,
    "gemma-3-12b": 11_766_034_176,
    "gpt-oss-20b": 20_914_757_184,
    "deepseek-v2-lite": 15_706_484_224,
    "opt-350m": 331_196_416,
    "opt-1.3b": 1_315_758_080,
}


def test_published_numbers() -> None:
    assert {name: parameters_of_config(find(name)).total for name in known()} == PUBLISHED


def test_two_models_whose_files_store_the_tied_table_twice() -> None:
    assert parameters_of_config(find("qwen3-0.6b")).total_untied == 751_632_384
    assert parameters_of_config(find("qwen3-1.7b")).total_untied == 2_031_739_904
    assert parameters_of_config(find("qwen3-8b")).total_untied == PUBLISHED["qwen3-8b"]


def test_kinds_by_hand() -> None:
    """Llama 3.1 8B: 32 layers, 4096 wide, 8 key heads of 128, MLPs of 14336."""
    matrices = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    assert parameters_of_config(find("llama-3.1-8b")) == Parameters(
        embedding=128_256 * 4096,
        output=128_256 * 4096,
        matrices=matrices,
        norms_and_biases=65 * 4096,
    )


def test_experts_by_hand() -> None:
    """DeepSeek-V2-Lite: 26 of 27 layers have 64 experts of 3 × 2048 × 1408."""
    found = parameters_of_config(find("deepseek-v2-lite"))
    assert found.experts == 26 * 64 * 3 * 2048 * 1408
    assert found.output == found.embedding == 102_400 * 2048


def test_a_tied_table_is_both_kinds_and_counts_once() -> None:
    found = parameters_of_config(find("gemma-3-1b"))
    assert (found.output, found.tied_output) == (0, 262_144 * 1152)
    assert found.total_untied - found.total == found.tied_output


LATENT = {"kv_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12}


def count(model_type: str, **changes: Any) -> Parameters:
    values = TINY | {"model_type": model_type} | changes
    return parameters_of_config(ModelConfig("here", values))


@pytest.mark.parametrize(
    ("model_type", "changes", "problem"),
    [
        ("llama", {"intermediate_size": None}, "field 'intermediate_size' is missing"),
        ("phi3", {"intermediate_size": None}, "field 'intermediate_size' is missing"),
        ("gemma2", {"intermediate_size": "x"}, "field 'intermediate_size' is 'x'"),
        ("opt", {}, "field 'ffn_dim' is missing"),
        ("opt", {"ffn_dim": 9, "max_position_embeddings": None}, "'max_position_embeddings' is"),
        ("gpt2", {"max_position_embeddings": None}, "field 'n_positions' is missing"),
        ("mixtral", {}, "field 'num_local_experts' is missing"),
        ("gpt_oss", {"num_local_experts": 1}, "'num_local_experts' is 1; gpt_oss has more"),
        (
            "qwen3_moe",
            {"num_experts": 4, "num_experts_per_tok": 2},
            "field 'moe_intermediate_size' is missing",
        ),
        ("deepseek_v2", LATENT, "field 'q_lora_rank' is missing"),
        ("llama", {"num_hidden_layers": 10**9}, "1000000000 layers"),
        ("llama", {"num_hidden_layers": 0}, "field 'num_hidden_layers' is 0"),
    ],
)
def test_what_a_config_lacks_is_named(
    model_type: str, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BrokenModelFile, match=problem):
        count(model_type, **changes)


def test_other_model_types_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="'gpt_neox'"):
        count("gpt_neox")
