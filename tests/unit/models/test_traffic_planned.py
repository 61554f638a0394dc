"""Is what a planned model's step will read what the step of the model itself reads?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.models import ModelSpec, resolve
from pytest_llmperf.models.catalogue import find
from pytest_llmperf.models.config import ModelConfig, read_config
from pytest_llmperf.models.layers_hf import layers_of_config
from pytest_llmperf.models.parameters import parameters_of_config
from pytest_llmperf.models.step import Traffic, prefill_flops, step_bytes
from pytest_llmperf.models.traffic import traffic_of
from pytest_llmperf.models.traffic_planned import traffic_planned
from pytest_llmperf.models.weights import weights_as_gguf
from tests.unit.models.conftest import ConfigWriter


def planned(config: ModelConfig, quantization: str) -> Traffic:
    layers, parameters = layers_of_config(config), parameters_of_config(config)
    return traffic_planned(layers, parameters, weights_as_gguf(config, quantization))


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"model_type": "qwen3"}])
def test_of_a_model_that_is_there(tiny: ConfigWriter, changes: dict[str, object]) -> None:
    source = tiny(**changes)
    there = traffic_of(resolve(ModelSpec(source, "F16"), "gguf"))
    assert isinstance(there, Traffic)
    soon = planned(read_config(Path(source.removeprefix("synthetic:"))), "F16")
    assert soon.attention == there.attention
    for depth in (0, 100):
        assert step_bytes(soon, depth_tokens=depth) == step_bytes(there, depth_tokens=depth)
    assert prefill_flops(soon, prompt_tokens=64) == prefill_flops(there, prompt_tokens=64)
    assert soon.bits_per_weight == pytest.approx(there.bits_per_weight, rel=0.01)


def test_a_token_reads_some_of_the_experts() -> None:
    """gpt-oss: 4 of 32 experts, whose 19.1 billion weights take 4.25 bits each."""
    traffic = planned(find("gpt-oss-20b"), "MXFP4_MOE")
    assert (traffic.experts, traffic.experts_used) == (32, 4)
    assert traffic.expert_bytes == pytest.approx(19.1e9 * 4.25 / 8, rel=0.01)
    assert step_bytes(traffic) == pytest.approx(traffic.dense_bytes + traffic.expert_bytes / 8)


def test_a_window_ends_what_is_read() -> None:
    traffic = planned(find("gemma-3-1b"), "Q4_K_M")
    assert sorted(each.window or 0 for each in traffic.attention) == [0, 512]
    near, far = (step_bytes(traffic, depth_tokens=depth) for depth in (512, 1024))
    full = next(each for each in traffic.attention if each.window is None)
    assert far - near == 512 * full.layers * full.kv_values * 2


def test_compressed_keys_are_read_as_they_are_kept() -> None:
    traffic = planned(find("deepseek-v2-lite"), "Q4_K_M")
    (attention,) = traffic.attention
    assert attention.kv_values == 512 + 64
    assert attention.query_values == 16 * (128 + 64 + 128)
