"""Are drafted tokens of llama.cpp those of decoding one by one, only sooner?"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pytest_llmperf.backends import Request
from pytest_llmperf.backends.llama_cpp import LlamaCppOptions
from pytest_llmperf.backends.llama_drafts import agreeing
from pytest_llmperf.fit.footprint import RAM
from pytest_llmperf.fit.llama_cpp import llama_cpp_footprint
from pytest_llmperf.fit.size_of_files import size_of_files
from pytest_llmperf.models import ModelSpec, resolve
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.messages import Generated
from pytest_llmperf.worker.pool import LoadedModel
from tests.backends.conftest import Load
from tests.faults.processes import answer_to, generate, prompt

ALIKE = {"quantization": "F32", "type_k": "f32", "type_v": "f32", "flash_attn": "off"}
"""With these llama.cpp rounds alike whatever the size of a batch, so that no near tie tips."""
REPEATED = [5, 6] * 20
"""After which a model of random weights repeats itself for a while."""


def draft_of(quantization: str) -> str:
    """A draft model's file: the model itself, in another quantization."""
    return resolve(ModelSpec("synthetic:llama-15m", quantization), "gguf").path


def accepted(model: LoadedModel) -> tuple[int, int]:
    """Accepted and drafted tokens of the last request, by the worker's log."""
    told = re.findall(
        r"speculation: \d+ tokens in \d+ steps, (\d+) of (\d+) drafted",
        model.worker.log.read_text(errors="replace"),
    )
    return int(told[-1][0]), int(told[-1][1])


def is_whole(answer: Generated, new_tokens: int) -> bool:
    """Whether counts, ids, chunks and instants tell of the same tokens."""
    counts = (answer.count, len(answer.token_ids), sum(answer.chunk_tokens))
    return counts == (new_tokens,) * 3 and len(answer.chunk_tokens) == len(answer.instants_ns)


@pytest.mark.engine
@pytest.mark.parametrize("drafted", ["F32", "Q8_0"])
@pytest.mark.parametrize("depth", [0, 24])
def test_a_draft_model_changes_no_token(drafted: str, depth: int, load: Load) -> None:
    plain = load("llama-cpp", **ALIKE)
    drafting = load("llama-cpp", draft_model=draft_of(drafted), draft_max=4, **ALIKE)
    for seed in range(6):
        request = Request(prompts=[prompt(40, seed)], new_tokens=24, depth=depth)
        answer = answer_to(drafting, request)
        assert answer.token_ids == answer_to(plain, request).token_ids
        assert is_whole(answer, 24)
        right, drafts = accepted(drafting)
        assert len(answer.chunk_tokens) == 24 - right
        assert 0 < right <= drafts


@pytest.mark.engine
def test_a_draft_by_the_model_itself_is_always_right(load: Load) -> None:
    """The first token is that of the prompt; the last draft is cut to what is left."""
    drafting = load("llama-cpp", draft_model=draft_of("F32"), draft_max=4, **ALIKE)
    answer = generate(drafting, prompt(40), 24)
    assert answer.chunk_tokens == [1, 5, 5, 5, 5, 3]
    assert accepted(drafting) == (18, 18)
    assert drafting.options["draft_max"] == 4


@pytest.mark.engine
@pytest.mark.parametrize("n_batch", [5, 512])
def test_prompt_lookup_changes_no_token(n_batch: int, load: Load) -> None:
    plain = load("llama-cpp", **ALIKE)
    looking = load("llama-cpp", prompt_lookup_num_tokens=4, n_batch=n_batch, **ALIKE)
    assert looking.options["max_ngram_size"] == 2
    answer = generate(looking, REPEATED, 64)
    assert answer.token_ids == generate(plain, REPEATED, 64).token_ids
    assert is_whole(answer, 64)
    right, drafts = accepted(looking)
    assert len(answer.chunk_tokens) == 64 - right
    assert 0 < right < drafts
    unlike = generate(looking, prompt(40), 24)
    assert unlike.token_ids == generate(plain, prompt(40), 24).token_ids


@pytest.mark.engine
def test_both_clocks_are_in_the_engines_time_and_neither_tells_the_phases(load: Load) -> None:
    drafting = load("llama-cpp", draft_model=draft_of("F32"), draft_max=4, **ALIKE)
    answer = generate(drafting, prompt(40), 24)
    assert answer.timings is not None
    assert (answer.timings.prefill_s, answer.timings.decode_s) == (None, None)
    whole_s = (answer.instants_ns[-1] - answer.started_ns) / 1e9
    assert 0.5 * whole_s < answer.timings.total_s <= whole_s


@pytest.mark.engine
def test_the_reader_is_told_that_the_text_decides(load: Load) -> None:
    model = load("llama-cpp", prompt_lookup_num_tokens=4, n_batch=512, **ALIKE)
    assert any("depends on the text" in each for each in model.engine.random_caveats)
    assert (model.engine.batch, model.engine.kv_element_bytes) == (1, None)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draft_model": "/nowhere.gguf"}, "draft_model=/nowhere.gguf is no file"),
        ({"draft_max": 3}, "draft_max needs a draft_model"),
        ({"max_ngram_size": 3}, "max_ngram_size needs prompt_lookup_num_tokens"),
        ({"prompt_lookup_num_tokens": 2, "draft_model": "x"}, "both draft tokens: leave one out"),
        ({"prompt_lookup_num_tokens": 2, "n_seq_max": 2}, "one sequence at a time"),
        ({"prompt_lookup_num_tokens": 8, "n_batch": 8}, "n_batch=8 cannot hold 8 drafted tokens"),
    ],
)
def test_drafting_that_cannot_be_is_refused(
    options: dict[str, object], words: str, load: Load
) -> None:
    with pytest.raises(EngineRefusal, match=words):
        load("llama-cpp", **options)


@pytest.mark.engine
def test_a_draft_model_of_another_vocabulary_is_refused_with_both(
    load: Load, tmp_path: Path
) -> None:
    folder = resolve(ModelSpec("synthetic:llama-15m", "BF16"), "hf").path
    config = json.loads((Path(folder) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 512}))
    other = resolve(ModelSpec(f"synthetic:{tmp_path / 'config.json'}", "F32"), "gguf").path
    with pytest.raises(EngineRefusal, match="has 512 tokens in its vocabulary, the model 32000"):
        load("llama-cpp", draft_model=other)


@pytest.mark.parametrize(
    ("draft", "choices", "right"),
    [([], [7], 0), ([1, 2], [1, 2, 3], 2), ([1, 2], [1, 3, 4], 1), ([1, 2], [2, 1, 3], 0)],
)
def test_a_draft_agrees_up_to_its_first_mistake(
    draft: list[int], choices: list[int], right: int
) -> None:
    assert agreeing(draft, choices) == right


@pytest.mark.engine
def test_the_model_that_drafts_is_counted_in_before_the_load() -> None:
    files = resolve(ModelSpec("synthetic:llama-15m", "Q8_0"), "gguf")
    size = size_of_files(files)
    alone = llama_cpp_footprint(size, LlamaCppOptions(n_ctx=512, type_k="f32")).on(RAM)
    drafting = LlamaCppOptions(n_ctx=512, type_k="f32", draft_model=files.path)
    both = llama_cpp_footprint(size, drafting).on(RAM)
    assert both.weights.low == 2 * alone.weights.low
    assert both.compute.low == 2 * alone.compute.low
    assert alone.cache < both.cache < 2 * alone.cache  # the one that drafts keeps f16
    assert alone.overhead.low < both.overhead.low < 2 * alone.overhead.low
