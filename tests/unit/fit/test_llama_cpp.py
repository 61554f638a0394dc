"""What goes where when llama.cpp shares a model among devices?"""

from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.fit.footprint import Share
from pytest_llmperf.fit.llama_cpp import llama_cpp_footprint
from pytest_llmperf.models.errors import UnsupportedModel
from pytest_llmperf.models.layers import FullAttention
from tests.unit.fit.models import MIB, model

ONE = (1.0,)
TOKEN = 4 * 2048  # bytes of cache, all layers


def test_on_a_cpu_everything_is_in_main_memory() -> None:
    footprint = llama_cpp_footprint(model(), LlamaCppOptions(n_ctx=1024))
    (ram,) = footprint.shares
    assert ram.weights.low == ram.weights.high == (50 + 4 * 100 + 60) * MIB
    assert ram.cache == 1024 * TOKEN
    assert footprint.context_tokens == 1024
    assert ram.total.low > ram.needed


@pytest.mark.parametrize(
    ("asked", "host_mib", "gpu_mib", "gpu_layers"),
    [
        (0, 50 + 400 + 60, None, 0),
        (1, 50 + 400, 60, 0),
        (3, 50 + 200, 200 + 60, 2),
        (5, 50, 400 + 60, 4),
        (99, 50, 400 + 60, 4),
        (-1, 50, 400 + 60, 4),
    ],
)
def test_the_last_layers_go_to_the_gpu_and_the_output_first(
    asked: int, host_mib: int, gpu_mib: int | None, gpu_layers: int
) -> None:
    options = LlamaCppOptions(n_ctx=1024, n_gpu_layers=asked)
    footprint = llama_cpp_footprint(model(), options, ONE)
    assert footprint.on("ram").weights.low == host_mib * MIB
    if gpu_mib is None:
        assert footprint.gpus == ()
    else:
        (gpu,) = footprint.gpus
        assert gpu.weights.low == gpu_mib * MIB
        assert gpu.cache == 1024 * 2048 * gpu_layers
    assert footprint.on("ram").cache == 1024 * 2048 * (4 - gpu_layers)


def test_a_tied_table_lies_on_both_sides() -> None:
    size = model(output_mib=0)
    tied = msgspec.structs.replace(size.weights, tied=50 * MIB)
    footprint = llama_cpp_footprint(
        msgspec.structs.replace(size, weights=tied), LlamaCppOptions(), ONE
    )
    assert footprint.on("ram").weights.low == 50 * MIB
    assert footprint.gpus[0].weights.low == (400 + 50) * MIB


def test_two_gpus_share_as_they_are_told() -> None:
    one = llama_cpp_footprint(model(), LlamaCppOptions(n_ctx=1024), ONE).gpus
    two = llama_cpp_footprint(model(), LlamaCppOptions(n_ctx=1024), (0.75, 0.25)).gpus
    assert [each.device for each in two] == ["vram:0", "vram:1"]
    assert sum(each.weights.low for each in two) == one[0].weights.low
    assert sum(each.cache for each in two) == one[0].cache
    assert two[0].weights.low == 3 * two[1].weights.low


def test_what_a_cpu_keeps_in_another_order_is_there_twice_when_mapped() -> None:
    size = model()

    def ram(*, use_mmap: bool, repacked: frozenset[str]) -> Share:
        options = LlamaCppOptions(use_mmap=use_mmap)
        return llama_cpp_footprint(size, options, repacked=repacked).on("ram")

    plain = ram(use_mmap=True, repacked=frozenset())
    mapped = ram(use_mmap=True, repacked=frozenset({"Q8_0"}))
    assert mapped.total.low == plain.total.low + 400 * MIB
    assert mapped.needed == plain.needed  # the mapped pages can go once they are copied
    assert ram(use_mmap=False, repacked=frozenset({"Q8_0"})).total == plain.total


def test_a_quantized_cache_is_as_much_smaller() -> None:
    whole = llama_cpp_footprint(model(), LlamaCppOptions(n_ctx=1024))
    packed = llama_cpp_footprint(model(), LlamaCppOptions(n_ctx=1024, type_k="q8_0", type_v="q8_0"))
    assert packed.on("ram").cache * 32 * 2 == whole.on("ram").cache * 34


def test_sequences_have_their_share_of_the_context() -> None:
    footprint = llama_cpp_footprint(model(), LlamaCppOptions(n_ctx=4096, n_seq_max=4))
    assert (footprint.context_tokens, footprint.sequences) == (1024, 4)
    assert footprint.on("ram").cache == 4096 * TOKEN


def test_scores_are_counted_without_flash_attention() -> None:
    def compute(flash: str) -> int:
        options = msgspec.convert({"n_ctx": 4096, "flash_attn": flash}, LlamaCppOptions)
        return llama_cpp_footprint(model(), options, ONE).gpus[0].compute.middle

    assert compute("off") - compute("on") == pytest.approx(8 * 4096 * 512 * 4, rel=0.01)


def test_a_cache_that_llama_cpp_refuses_is_refused() -> None:
    size = model()
    assert size.layers is not None
    odd = msgspec.structs.replace(size.layers, layers=(FullAttention(8, 40, 40),))
    with pytest.raises(UnsupportedModel, match="do not divide a head of 40"):
        llama_cpp_footprint(
            msgspec.structs.replace(size, layers=odd), LlamaCppOptions(type_k="q8_0")
        )


def test_layers_that_are_not_known_leave_the_cache_out_and_say_so() -> None:
    size = msgspec.structs.replace(model(), layers=None, notes=("no idea",))
    footprint = llama_cpp_footprint(size, LlamaCppOptions())
    assert footprint.on("ram").cache == 0
    assert footprint.notes == ("no idea",)
