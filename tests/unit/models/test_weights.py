"""Are a model's weights as large as its files are, and where are they?"""

from __future__ import annotations

import pytest

from pytest_llmperf.models import UnknownQuantization
from pytest_llmperf.models.catalogue import find, known
from pytest_llmperf.models.gguf import GgufTensor
from pytest_llmperf.models.parameters import parameters_of_config
from pytest_llmperf.models.weights import (
    Weights,
    weights_as_gguf,
    weights_as_loaded,
    weights_of_tensors,
)

FILES_GB = {  # as their publishers list them, rounded to 0.01 · 10⁹ bytes
    ("mistral-7b", "Q3_K_M"): 3.52,
    ("mistral-7b", "Q4_0"): 4.11,
    ("mistral-7b", "Q4_K_M"): 4.37,
    ("mistral-7b", "Q5_K_M"): 5.13,
    ("mistral-7b", "Q6_K"): 5.94,
    ("mistral-7b", "Q8_0"): 7.70,
    ("llama-2-7b", "Q3_K_M"): 3.30,
    ("llama-2-7b", "Q4_K_M"): 4.08,
    ("llama-2-7b", "Q5_K_M"): 4.78,
    ("llama-2-13b", "Q4_K_M"): 7.87,
    ("llama-2-13b", "Q6_K"): 10.68,
    ("llama-2-13b", "Q8_0"): 13.83,
}
"""TheBloke's GGUF repositories of the three models at Hugging Face."""


@pytest.mark.parametrize(("name", "quantization"), FILES_GB)
def test_files_that_everybody_knows(name: str, quantization: str) -> None:
    weights = weights_as_gguf(find(name), quantization)
    assert weights.total / 1e9 == pytest.approx(FILES_GB[name, quantization], abs=0.01)
    assert weights.doubt == 0


OTHER_FILES_GB = {
    ("gemma-3-12b", "Q4_K_M"): 7.30,
    ("gpt-oss-20b", "MXFP4_MOE"): 12.1,
    ("gpt-oss-20b", "Q6_K"): 12.04,  # its experts stay in MXFP4
    ("deepseek-v2-lite", "Q4_K_M"): 10.36,
    ("gemma-3-1b", "Q4_K_M"): 0.806,
    ("gemma-3-4b", "Q4_K_M"): 2.49,
}
"""bartowski's and ggml-org's GGUF repositories."""


@pytest.mark.parametrize(("name", "quantization"), OTHER_FILES_GB)
def test_a_doubt_is_large_enough(name: str, quantization: str) -> None:
    weights = weights_as_gguf(find(name), quantization)
    off = OTHER_FILES_GB[name, quantization] * 1e9 / weights.total - 1
    assert 0 < weights.doubt < 0.05
    assert abs(off) <= weights.doubt


@pytest.mark.parametrize("name", known())
def test_half_precision_is_two_bytes_a_weight(name: str) -> None:
    count = parameters_of_config(find(name)).total
    assert weights_as_loaded(find(name), 2.0).total == pytest.approx(2 * count, abs=1000)
    if name != "gpt-oss-20b":
        assert weights_as_gguf(find(name), "F16").total == pytest.approx(2 * count, rel=0.01)


def tensor(name: str, *shape: int, kind: str = "F16", size: int = 2) -> GgufTensor:
    elements = 1
    for each in shape:
        elements *= each
    return GgufTensor(name, shape, 1, kind, 0, elements * size)


def test_tensors_by_their_places() -> None:
    found = weights_of_tensors(
        [
            tensor("token_embd.weight", 8, 100),
            tensor("blk.0.attn_q.weight", 8, 8),
            tensor("blk.0.attn_norm.weight", 8, kind="F32", size=4),
            tensor("blk.2.ffn_up_exps.weight", 8, 16, 4, kind="Q8_0", size=1),
            tensor("output_norm.weight", 8, kind="F32", size=4),
            tensor("output.weight", 8, 100),
        ]
    )
    assert found == Weights(
        tables=1600,
        layers=(128 + 32, 0, 512),
        experts=512,
        output=1600 + 32,
        types={"F16": 128 + 1600, "Q8_0": 512},
    )
    assert found.total == 1600 + 160 + 512 + 1632


def test_a_table_that_is_the_output_too_is_there_once() -> None:
    found = weights_of_tensors([tensor("token_embd.weight", 8, 100), tensor("blk.0.q.weight", 8)])
    assert (found.total, found.tied) == (1600 + 16, 1600)


def test_an_unknown_mix_is_refused_for_every_model() -> None:
    for name in ("mistral-7b", "gemma-3-1b"):
        with pytest.raises(UnknownQuantization, match="IQ1_S"):
            weights_as_gguf(find(name), "IQ1_S")
