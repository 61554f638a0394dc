"""Do sequences of a batch, and tokens read ahead, give what they give alone?"""

from __future__ import annotations

import pytest

from pytest_llmperf.backends import Request
from pytest_llmperf.worker.errors import EngineRefusal
from tests.backends.conftest import Load
from tests.faults.processes import answer_to, prompt

pytestmark = pytest.mark.engine

ENGINES = [
    pytest.param("llama-cpp", {"quantization": "F32", "n_seq_max": 3, "n_ctx": 1536}, id="llama"),
    pytest.param("transformers", {"quantization": "F32"}, id="transformers"),
]


@pytest.mark.parametrize(("engine", "arguments"), ENGINES)
def test_tokens_read_ahead_are_tokens_of_the_prompt(
    engine: str, arguments: dict[str, object], load: Load
) -> None:
    """Rounding differs with the split and can tip a near tie; a lost part would tip them all."""
    model = load(engine, **arguments)
    same = []
    for seed in range(8):
        ids = prompt(100, seed)
        whole, ahead = (
            answer_to(model, Request(prompts=[ids], new_tokens=6, depth=depth)) for depth in (0, 60)
        )
        assert whole.count == ahead.count == 6
        same.append(whole.token_ids == ahead.token_ids)
    assert sum(same) >= 6, same


@pytest.mark.parametrize(("engine", "arguments"), ENGINES)
@pytest.mark.parametrize("depth", [0, 40])
def test_each_sequence_of_a_batch_goes_on_as_it_would_alone(
    engine: str, arguments: dict[str, object], depth: int, load: Load
) -> None:
    model = load(engine, **arguments)
    prompts = [prompt(64, seed) for seed in range(3)]
    together = answer_to(model, Request(prompts=prompts, new_tokens=6, depth=depth))
    assert (together.count, len(together.instants_ns)) == (6, 6)
    assert len(together.token_ids) == 18
    same = []
    for place, ids in enumerate(prompts):
        alone = answer_to(model, Request(prompts=[ids], new_tokens=6, depth=depth))
        same.append(together.token_ids[place::3] == alone.token_ids)
    assert sum(same) >= 2, same


def test_llama_cpp_counts_only_what_was_read_after_the_clock_began(load: Load) -> None:
    """Its own clock tells the phases apart only when it saw exactly the prompt's tokens."""
    model = load("llama-cpp")
    told = answer_to(model, Request(prompts=[prompt(200)], new_tokens=4, depth=150)).timings
    assert told is not None
    assert told.prefill_s is not None
    assert told.decode_s is not None
    assert told.total_s == pytest.approx(told.prefill_s + told.decode_s)


@pytest.mark.parametrize(
    ("prompts", "told_apart"), [([prompt(40)], True), ([prompt(40)] * 2, False)]
)
def test_llama_cpp_cannot_tell_the_phases_of_a_batch_apart(
    prompts: list[list[int]], told_apart: bool, load: Load
) -> None:
    model = load("llama-cpp", n_seq_max=2)
    told = answer_to(model, Request(prompts=prompts, new_tokens=8)).timings
    assert told is not None
    assert (told.prefill_s is not None) is told_apart
    assert told.total_s > 0


def test_transformers_has_no_clock_of_its_own(load: Load) -> None:
    model = load("transformers")
    assert answer_to(model, Request(prompts=[prompt(8)], new_tokens=2)).timings is None


def test_a_context_is_shared_out_among_the_sequences(load: Load) -> None:
    model = load("llama-cpp", n_seq_max=4, n_ctx=2048)
    assert (model.engine.batch, model.engine.context_tokens) == (4, 512)


def test_a_batch_beyond_what_was_loaded_is_refused_by_the_worker_itself(load: Load) -> None:
    model = load("llama-cpp", n_seq_max=2)
    with pytest.raises(EngineRefusal, match="3 sequences asked for, the engine holds 2"):
        answer_to(model, Request(prompts=[prompt(8)] * 3, new_tokens=2))


def test_a_batch_that_llama_cpp_cannot_hand_over_at_once_is_refused(load: Load) -> None:
    with pytest.raises(EngineRefusal, match="n_batch=4 cannot hold a token of each of n_seq_max=8"):
        load("llama-cpp", n_seq_max=8, n_batch=4)


def test_a_prompt_of_one_token_is_not_taken_for_a_prefill_by_llama_cpps_clock(load: Load) -> None:
    model = load("llama-cpp")
    told = answer_to(model, Request(prompts=[prompt(41)], new_tokens=8, depth=40)).timings
    assert told is not None
    assert (told.prefill_s, told.decode_s) == (None, None)
