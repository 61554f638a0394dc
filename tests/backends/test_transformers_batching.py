"""Does continuous batching decode in step, as told, and nothing of an earlier request again?"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import pytest

from pytest_llmperf.backends import Request, Timeline
from pytest_llmperf.backends.queue import continuous_steps, static_steps
from pytest_llmperf.backends.transformers_batching import _Steps
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.messages import Generated
from tests.backends.conftest import Load
from tests.faults.processes import answer_to, generate, prompt

CONTINUOUS = {"quantization": "F32", "batching": "continuous", "page_size": 16, "num_blocks": 64}


@pytest.mark.engine
@pytest.mark.parametrize("batch", [1, 3])
def test_continuous_batching_changes_no_token(batch: int, load: Load) -> None:
    plain = load("transformers", quantization="F32")
    model = load("transformers", **CONTINUOUS)
    request = Request(prompts=[prompt(40, seed) for seed in range(batch)], new_tokens=16)
    want = answer_to(plain, request).token_ids
    for _ in range(2):  # the second finds nothing of the first
        answer = answer_to(model, request)
        assert answer.token_ids == want
        assert (answer.count, len(answer.instants_ns)) == (16, 16)
        instants = [answer.started_ns, *answer.instants_ns]
        assert all(earlier < later for earlier, later in pairwise(instants))


def split(answer: Generated) -> list[list[int]]:
    """The tokens of each request of a queue."""
    found: dict[int, list[int]] = {}
    for place, token in zip(answer.sequences, answer.token_ids, strict=True):
        found.setdefault(place, []).append(token)
    return [found[place] for place in sorted(found)]


def steps_of(answer: Generated) -> list[set[int]]:
    """The requests that got a token in each step."""
    left = iter(answer.sequences)
    return [{next(left) for _ in range(tokens)} for tokens in answer.chunk_tokens]


@pytest.mark.engine
@pytest.mark.parametrize(
    ("options", "schedule"),
    [
        ({"quantization": "F32", "static_batch": 2}, static_steps),
        ({**CONTINUOUS, "max_requests_per_batch": 2}, continuous_steps),
    ],
)
def test_a_queue_is_decoded_as_told_and_changes_no_token(
    options: dict[str, object], schedule: Callable[[list[int], int], list[list[int]]], load: Load
) -> None:
    model, lengths = load("transformers", **options), [3, 9, 5, 2, 6]
    prompts = [prompt(24, seed) for seed in range(5)]
    want = [
        generate(model, ids, length).token_ids for ids, length in zip(prompts, lengths, strict=True)
    ]
    answer = answer_to(model, Request(prompts=prompts, new_tokens=9, lengths=lengths))
    assert split(answer) == want
    assert steps_of(answer) == [set(step) for step in schedule(lengths, 2)]
    assert (answer.count, len(answer.instants_ns)) == (25, len(schedule(lengths, 2)))


@pytest.mark.engine
def test_a_queue_beside_drafts_is_refused(load: Load) -> None:
    model = load("transformers", prompt_lookup_num_tokens=4)
    with pytest.raises(EngineRefusal, match="the engine decodes in step only"):
        answer_to(model, Request(prompts=[prompt(8)] * 2, new_tokens=4, lengths=[2, 4]))


@pytest.mark.engine
def test_what_was_not_said_is_reported(load: Load) -> None:
    model = load("transformers", **CONTINUOUS)
    sizes = [model.options[name] for name in ("page_size", "num_blocks", "max_batch_tokens")]
    assert sizes == [16, 64, 8192]
    eager = load("transformers", attn_implementation="eager", **CONTINUOUS)
    assert eager.options["attn_implementation"] == "paged|eager"
    assert generate(eager, prompt(16), 4).count == 4


@pytest.mark.engine
@pytest.mark.parametrize(
    ("sizes", "batch", "words"),
    [
        ({}, 20, r"20 × 56 tokens need 80 blocks of 16, there are num_blocks=64"),
        ({"max_batch_tokens": 64}, 2, r"load with max_batch_tokens=80, not 64"),
    ],
)
def test_a_batch_that_would_not_decode_in_step_is_refused(
    sizes: dict[str, object], batch: int, words: str, load: Load
) -> None:
    model = load("transformers", **CONTINUOUS, **sizes)
    with pytest.raises(EngineRefusal, match=words):
        answer_to(model, Request(prompts=[prompt(40)] * batch, new_tokens=16))
    assert generate(model, prompt(16), 4).count == 4


@pytest.mark.engine
def test_tokens_read_ahead_are_refused(load: Load) -> None:
    model = load("transformers", **CONTINUOUS)
    with pytest.raises(EngineRefusal, match="ask for depth=0"):
        answer_to(model, Request(prompts=[prompt(40)], new_tokens=4, depth=20))


@pytest.mark.engine
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_blocks": 4}, "num_blocks needs batching='continuous'"),
        ({"max_requests_per_batch": 4}, "max_requests_per_batch needs batching='continuous'"),
        ({"batching": "continuous", "static_batch": 4}, "has max_requests_per_batch instead"),
        ({"batching": "continuous", "cache_implementation": "static"}, "a loop of its own"),
        ({"batching": "continuous", "prompt_lookup_num_tokens": 4}, "a loop of its own"),
    ],
)
def test_batching_that_cannot_be_is_refused(
    options: dict[str, object], words: str, load: Load
) -> None:
    with pytest.raises(EngineRefusal, match=words):
        load("transformers", **options)


def outputs(*sequences: tuple[str, list[int], bool]) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(request_id=name, generated_tokens=ids, is_finished=lambda done=done: done)
        for name, ids, done in sequences
    ]


def test_sequences_out_of_step_reject_the_numbers_and_are_waited_for() -> None:
    steps, timeline = _Steps(), Timeline(2, batch=2)
    steps.begin(timeline, ["a", "b"])
    steps.deliver_batch(outputs(("b", [5], False), ("a", [4], False)))
    assert timeline.token_ids == [4, 5]
    assert timeline.rejected is None
    steps.deliver_batch(outputs(("a", [4, 6], True)))
    assert timeline.rejected == "sequences did not decode in step: 1 of 2 got a token"
    assert not steps.done.is_set()
    steps.deliver_batch(outputs(("b", [5, 7], True)))
    assert steps.done.is_set()
