"""What do transformers, vLLM and onnxruntime have to hold, and for which work?"""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from pytest_llmperf.fit.devices import Devices
from pytest_llmperf.fit.footprint import Footprint, Interval, Share, total
from pytest_llmperf.fit.load import Load
from pytest_llmperf.fit.model_size import TorchStyle, scaled
from pytest_llmperf.fit.onnxruntime import onnxruntime_footprint
from pytest_llmperf.fit.transformers import CONVERTED, transformers_footprint
from pytest_llmperf.fit.vllm import UNMEASURED, vllm_footprint
from pytest_llmperf.models.config import ModelConfig
from pytest_llmperf.models.layers import SlidingAttention
from tests.unit.fit.models import MIB, model

LOAD = Load(context_tokens=1000, prompt_tokens=900)
GPU = Devices(gpu_layers=99, shares=(1.0,))
PER_TOKEN = 4 * 2048  # bytes of all layers in two-byte numbers
WEIGHTS = (50 + 400 + 60) * MIB


def test_transformers_on_a_cpu() -> None:
    footprint = transformers_footprint(model(), LOAD, element_bytes=2.0)
    (ram,) = footprint.shares
    assert ram.weights.high == WEIGHTS
    assert WEIGHTS - 50 * MIB < ram.weights.low < WEIGHTS  # a table's rows that nobody looked up
    assert ram.cache == 1000 * PER_TOKEN
    assert footprint.context_tokens == 1000


def test_experts_and_conversions_are_there_twice_for_a_while() -> None:
    size = model()
    plain = transformers_footprint(size, LOAD, element_bytes=2.0).on("ram")
    experts = msgspec.structs.replace(size.weights, experts=300 * MIB)
    merged = transformers_footprint(
        msgspec.structs.replace(size, weights=experts), LOAD, element_bytes=2.0
    ).on("ram")
    beside = Interval.shares(WEIGHTS, CONVERTED)
    converted = transformers_footprint(size, LOAD, element_bytes=2.0, beside=beside).on("ram")
    assert merged.needed == plain.needed
    assert merged.total.low > plain.total.low + 300 * MIB
    assert converted.total.high >= plain.total.high + WEIGHTS


@pytest.mark.parametrize(
    ("config", "style"),
    [
        ({"model_type": "llama"}, TorchStyle()),
        ({"model_type": "gpt2"}, TorchStyle(mlp="composed")),
        ({"model_type": "gpt2", "activation_function": "relu"}, TorchStyle(mlp="plain")),
        ({"model_type": "opt", "activation_function": "relu"}, TorchStyle(mlp="plain")),
        ({"model_type": "gemma2"}, TorchStyle(scores="capped")),
        ({"model_type": "bloom"}, TorchStyle(mlp="composed", scores="biased")),
        ({"model_type": "falcon"}, TorchStyle(mlp="plain", never_fuses=True)),
        ({"model_type": "falcon", "multi_query": False}, TorchStyle(mlp="plain")),
        ({"model_type": "falcon", "new_decoder_architecture": True}, TorchStyle(mlp="plain")),
    ],
)
def test_how_transformers_computes_a_model_follows_from_its_config(
    config: dict[str, object], style: TorchStyle
) -> None:
    assert TorchStyle.of(ModelConfig("test", config)) == style


def test_scores_take_memory_where_attention_is_not_fused() -> None:
    def high(style: TorchStyle, *, eager: bool) -> int:
        size = msgspec.structs.replace(model(), style=style)
        found = transformers_footprint(size, LOAD, element_bytes=2.0, eager=eager)
        return found.on("ram").compute.high

    fused = high(TorchStyle(), eager=False)
    unfused = high(TorchStyle(never_fuses=True), eager=False)
    kinds: tuple[Literal["plain", "capped", "biased"], ...] = ("plain", "capped", "biased")
    plain, capped, biased = (high(TorchStyle(scores=each), eager=True) for each in kinds)
    assert fused < min(plain, unfused)
    assert plain < capped < biased


def test_of_a_mapped_table_the_rows_of_known_prompts_count() -> None:
    weights = msgspec.structs.replace(model().weights, tables=300 * MIB)
    size = msgspec.structs.replace(model(), weights=weights)

    def resident(prompts: int | None) -> Interval:
        load = msgspec.structs.replace(LOAD, prompts=prompts)
        return transformers_footprint(size, load, element_bytes=2.0).on("ram").weights

    two, three, some = resident(2), resident(3), resident(None)
    assert two.low == two.high < three.high
    assert (some.low, some.high) == (two.low, size.weights.total)


def test_transformers_in_four_bytes_has_twice_the_cache() -> None:
    footprint = transformers_footprint(model(), LOAD, element_bytes=4.0)
    assert footprint.on("ram").cache == 2 * 1000 * PER_TOKEN


def test_transformers_on_a_gpu_leaves_the_process_in_main_memory() -> None:
    footprint = transformers_footprint(model(), LOAD, element_bytes=2.0, devices=GPU)
    assert footprint.on("ram").weights.high == 0
    assert footprint.on("ram").overhead.low > 0
    assert footprint.on("vram:0").weights.low == WEIGHTS


def test_transformers_shares_its_layers() -> None:
    devices = Devices(gpu_layers=3, shares=(0.5, 0.5))  # two layers and the output
    footprint = transformers_footprint(model(), LOAD, element_bytes=2.0, devices=devices)
    assert footprint.on("ram").weights.low == 200 * MIB
    assert footprint.on("ram").cache == 1000 * PER_TOKEN // 2
    assert [each.weights.low for each in footprint.gpus] == [(200 + 50 + 60) * MIB // 2] * 2


def test_each_sequence_has_a_cache_and_activations_of_its_own() -> None:
    one = transformers_footprint(model(), LOAD, element_bytes=2.0).on("ram")
    four = transformers_footprint(
        model(), msgspec.structs.replace(LOAD, sequences=4), element_bytes=2.0
    ).on("ram")
    assert four.cache == 4 * one.cache
    assert four.compute.low > 3 * one.compute.low


def test_eager_attention_holds_its_scores() -> None:
    def low(*, eager: bool) -> int:
        found = transformers_footprint(model(), LOAD, element_bytes=2.0, eager=eager)
        return found.on("ram").compute.low

    assert low(eager=True) - low(eager=False) >= 900 * 900 * 8 * 2


def test_a_window_holds_a_whole_prompt_while_it_is_read() -> None:
    size = model()
    assert size.layers is not None
    windows = (SlidingAttention(8, 64, 64, window=100),) * 4
    layers = msgspec.structs.replace(size.layers, layers=windows)
    size = msgspec.structs.replace(size, layers=layers)
    assert transformers_footprint(size, LOAD, element_bytes=2.0).on("ram").cache == 900 * PER_TOKEN


@pytest.mark.parametrize(("gpus", "divided"), [(1, 1), (4, 4), (8, 8), (16, 8)])
def test_vllm_divides_weights_and_key_heads(gpus: int, divided: int) -> None:
    footprint = vllm_footprint(model(), LOAD, tensor_parallel=gpus)
    shares = footprint.gpus
    assert len(shares) == gpus
    assert shares[0].weights.low == pytest.approx(WEIGHTS / gpus, abs=1)
    assert shares[0].cache == 1008 * PER_TOKEN // divided  # whole blocks of 16 tokens
    assert UNMEASURED in footprint.notes


@pytest.mark.parametrize(
    ("weights_mib", "cache_mib", "peak_mib"),
    [
        (309, 76, 1825),  # llama-160m, of 2048 tokens; the model compiled: 1840
        (309, 76, 1840),
        (283, 17, 1783),  # the others are those of benchmarks/footprint_cases.py: qwen2
        (715, 130, 2641),  # llama-wide, four sequences
        (475, 51, 2164),  # mistral in float32
        (2098, 46, 5409),  # tinyllama-1.1b
        (471, 17, 2151),  # llama-128k
    ],
)
def test_vllm_on_a_cpu_takes_what_was_seen(weights_mib: int, cache_mib: int, peak_mib: int) -> None:
    """Peaks of the worker, its executor and its tracker, added."""
    size = model()
    scale = weights_mib * MIB / size.weights.total
    footprint = vllm_footprint(scaled(size, scale), LOAD, tensor_parallel=0)
    (ram,) = footprint.shares
    assert ram.cache == 1024 * PER_TOKEN  # whole blocks of 128 tokens
    assert UNMEASURED not in footprint.notes
    assert (peak_mib - cache_mib) * MIB in ram.weights + ram.overhead


def test_onnxruntime_keeps_the_whole_context_from_the_start() -> None:
    footprint = onnxruntime_footprint(model(), LOAD)
    (ram,) = footprint.shares
    assert ram.cache == 2 * 1000 * PER_TOKEN
    assert WEIGHTS - 50 * MIB < ram.weights.low < ram.weights.high == WEIGHTS
    assert ram.compute.low > 900 * 1000 * 4  # logits of every token of the prompt


def test_layers_that_are_not_known_leave_weights_alone() -> None:
    size = msgspec.structs.replace(model(), layers=None, notes=("no idea",))
    for footprint in (
        transformers_footprint(size, LOAD, element_bytes=2.0),
        vllm_footprint(size, LOAD),
        onnxruntime_footprint(size, LOAD),
    ):
        assert sum(each.cache for each in footprint.shares) == 0
        assert footprint.notes[0] == "no idea"


def test_a_total_is_the_sum_of_all_devices() -> None:
    footprint = Footprint(
        context_tokens=1,
        shares=(
            Share(device="ram", weights=Interval(1, 2), cache=10, copies=5),
            Share(device="vram:0", compute=Interval(0, 7), overhead=Interval(3, 3)),
        ),
    )
    assert footprint.total == Interval(19, 27)
    assert footprint.on("vram:1").total == Interval(0, 0)
    assert total([]) == Interval(0, 0)
    assert 19 in footprint.total
    assert 28 not in footprint.total
