"""Does llama.cpp really use what it was asked to use?"""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.pool import LoadedModel
from tests.backends.conftest import Load
from tests.faults.processes import generate, prompt

pytestmark = pytest.mark.engine


def private_bytes(model: LoadedModel) -> int:
    """RssAnon of the worker: resident memory that no file backs."""
    status = Path(f"/proc/{model.worker.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024


def threads(model: LoadedModel) -> int:
    """Threads of the worker once it has decoded."""
    generate(model, prompt(64), 8)
    return psutil.Process(model.worker.pid).num_threads()


def test_each_thread_asked_for_is_one_thread_of_the_worker(load: Load) -> None:
    one, two, three = (load("llama-cpp", n_threads=count) for count in (1, 2, 3))
    assert [model.options["n_threads"] for model in (one, two, three)] == [1, 2, 3]
    assert [model.options["n_threads_batch"] for model in (one, two, three)] == [1, 2, 3]
    assert threads(two) - threads(one) == 1
    assert threads(three) - threads(one) == 2


@pytest.mark.parametrize("flash_attn", ["on", "off"])
def test_flash_attention_is_what_was_asked_for(flash_attn: str, load: Load) -> None:
    model = load("llama-cpp", flash_attn=flash_attn)
    assert model.options["flash_attn"] == flash_attn
    said = {"on": "enabled", "off": "disabled"}[flash_attn]
    lines = model.worker.log.read_text(errors="replace").splitlines()
    assert any("flash_attn" in line and line.endswith(said) for line in lines)


@pytest.mark.parametrize(("kind", "bytes_each"), [("f32", 4.0), ("q8_0", 34 / 32)])
def test_a_cache_is_of_the_type_that_was_asked_for(
    kind: str, bytes_each: float, load: Load
) -> None:
    model = load("llama-cpp", source="synthetic:llama-160m", type_k=kind, type_v=kind)
    assert (model.options["type_k"], model.options["type_v"]) == (kind, kind)
    assert model.engine.kv_element_bytes == bytes_each
    assert f"K ({kind})" in model.worker.log.read_text(errors="replace")
    assert generate(model, prompt(32), 8).count == 8


def test_blocks_that_do_not_divide_a_head_are_refused(load: Load) -> None:
    with pytest.raises(
        EngineRefusal, match=r"with keys of q8_0 and values of f16(.|\n)*does not divide"
    ):
        load("llama-cpp", type_k="q8_0")  # heads of llama-15m are 48 numbers long


def test_quantized_values_without_flash_attention_are_refused_with_the_cure(load: Load) -> None:
    with pytest.raises(EngineRefusal, match="type_v=q8_0 needs flash attention: leave flash_attn"):
        load("llama-cpp", type_v="q8_0", flash_attn="off")


def test_the_context_in_force_is_reported_where_llama_cpp_rounds_it(load: Load) -> None:
    model = load("llama-cpp", n_ctx=300)
    assert model.options["n_ctx"] == model.engine.context_tokens == 512
    assert generate(model, prompt(480), 32).count == 32


def test_a_model_that_is_not_mapped_takes_private_memory(load: Load) -> None:
    mapped = load("llama-cpp", quantization="F32", use_mmap=True)
    read = load("llama-cpp", quantization="F32", use_mmap=False)
    assert (mapped.options["use_mmap"], read.options["use_mmap"]) == (True, False)
    assert read.files is not None
    more = private_bytes(read) - private_bytes(mapped)
    assert 0.8 * read.files.weight_bytes < more < 1.2 * read.files.weight_bytes


def test_a_prompt_of_several_batches_gives_the_same_tokens(load: Load) -> None:
    """Rounding differs with the batch and can tip a near tie; a lost part would tip them all."""
    small = load("llama-cpp", quantization="F32", n_batch=64)
    large = load("llama-cpp", quantization="F32", n_batch=512)
    assert (small.options["n_batch"], large.options["n_batch"]) == (64, 512)
    prompts = [prompt(200, seed) for seed in range(8)]
    same = [
        generate(small, ids, 4).token_ids == generate(large, ids, 4).token_ids for ids in prompts
    ]
    assert sum(same) >= 6, same


@pytest.mark.parametrize("quantization", ["F32", "F16"])
def test_greedy_tokens_are_those_of_transformers(quantization: str, load: Load) -> None:
    """Rounding can tip a near tie of random weights; wrong weights would agree nowhere."""
    ours = load("llama-cpp", quantization=quantization)
    theirs = load("transformers", quantization="F32")
    assert theirs.options["dtype"] == "float32"
    prompts = [prompt(tokens, seed) for tokens in (8, 32, 100) for seed in range(4)]
    same = [
        generate(ours, ids, 8).token_ids == generate(theirs, ids, 8).token_ids for ids in prompts
    ]
    assert sum(same) >= 9, same
