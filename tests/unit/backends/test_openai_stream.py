"""Are tokens counted by what a server says of them, and never by the parts of its stream?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_llmperf.backends import UNKNOWN
from pytest_llmperf.backends.openai_stream import Tally
from pytest_llmperf.backends.protocol import EngineEnded
from pytest_llmperf.backends.server_api import event_data, held_back


def part(*ids: int, **more: object) -> bytes:
    """As vLLM writes it."""
    return json.dumps({"choices": [{"text": "x", "token_ids": ids}], **more}).encode()


def running(predicted: int, *latest: int, **timings: object) -> bytes:
    """As llama-server writes it, with its running count and its latest token."""
    event: dict[str, Any] = {"choices": [{"text": "x"}]}
    event["timings"] = {"predicted_n": predicted, **timings}
    event["__verbose"] = {"tokens": latest}
    return json.dumps(event).encode()


def usage(prompt: int, completion: int, **more: object) -> bytes:
    """The last part, which has no choices."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, **more}
    return json.dumps({"choices": [], "usage": counts}).encode()


def test_ids_are_counted_whatever_the_parts() -> None:
    tally = Tally(str)
    assert tally.take([part(7), part(), part(8, 9)]) == [7, 8, 9]
    assert tally.take([usage(4, 3), b"[DONE]"]) == []
    assert (tally.count, tally.counted_by, tally.is_done) == (3, "token ids", True)
    assert tally.trouble(prompt_tokens=4) is None


def test_tokens_that_llama_server_held_back_are_counted_without_a_name() -> None:
    """It sends nothing for half of a character, and counts on."""
    tally = Tally(str)
    assert tally.take([running(1, 7), running(4, 8)]) == [7, UNKNOWN, UNKNOWN, 8]
    assert tally.take([running(5)]) == [UNKNOWN]
    assert tally.take([running(5)]) == []
    assert tally.count == 5


def test_a_running_usage_counts() -> None:
    tally = Tally(str)
    event = {"choices": [{"text": "ab"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    assert tally.take([json.dumps(event).encode()]) == [UNKNOWN, UNKNOWN]
    assert tally.counted_by == "running counts"


def test_a_usage_at_the_end_does_not_make_parts_countable() -> None:
    tally = Tally(str)
    text = json.dumps({"choices": [{"text": "x"}]}).encode()
    assert tally.take([text, text, usage(3, 2)]) == []
    assert tally.trouble(3) == (
        "the stream tells neither token ids nor counts: its parts cannot be counted"
    )


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (usage(4, 3), "2 tokens streamed, but the server's usage counts 3"),
        (usage(5, 2), "4 prompt tokens sent, but the server read 5"),
        (
            usage(4, 2, prompt_tokens_details={"cached_tokens": 3}),
            "3 of 4 prompt tokens came from the server's prefix cache: switch it off",
        ),
        (
            json.dumps({"choices": [], "timings": {"cache_n": 2}}).encode(),
            "2 of 4 prompt tokens came from the server's prefix cache: switch it off",
        ),
    ],
)
def test_counts_that_contradict_the_stream_are_named(last: bytes, why: str) -> None:
    tally = Tally(str)
    tally.take([part(1), part(2), last])
    assert tally.trouble(prompt_tokens=4) == why


def test_both_kinds_of_own_clocks_are_read() -> None:
    llama, vllm = Tally(str), Tally(str)
    llama.take([running(1, 7, prompt_ms=10.0, predicted_ms=30.0)])
    metrics = {"time_to_first_token_ms": 20.0, "generation_time_ms": 50.0, "queue_time_ms": 1.0}
    vllm.take([part(1), json.dumps({"choices": [], "metrics": metrics}).encode()])
    for tally, phases in ((llama, (0.01, 0.03)), (vllm, (0.02, 0.05))):
        assert tally.own_times is not None
        assert (tally.own_times.prefill_s, tally.own_times.decode_s) == phases
        assert tally.own_times.total_s == pytest.approx(sum(phases))
    assert Tally(str).own_times is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"choices": 3}', "holds what is no completion"),
        (b"<html>", "holds what is no completion"),
        (b'{"error": {"message": "out of cheese"}}', "broke off: .*out of cheese"),
    ],
)
def test_what_is_no_completion_ends_the_request(data: bytes, why: str) -> None:
    with pytest.raises(EngineEnded, match=why):
        Tally(str).take([data])


def test_what_the_server_says_of_an_error_is_shown_as_it_may_be() -> None:
    tally = Tally(lambda told: told.replace("opensesame", "[key]"))
    with pytest.raises(EngineEnded, match=r'^the server broke off: "not \[key\]"$'):
        tally.take([b'{"error": "not opensesame"}'])


@pytest.mark.parametrize(
    ("chunks", "gap_ms", "at_once"),
    [
        ([7, 1], 5.0, 7),
        ([12, 11], 5.0, 12),
        ([1] * 8, 0.05, 8),
        ([4, 4], 5.0, None),
        ([1] * 64, 0.6, None),
        ([6, 1], 5.0, None),
        ([], 5.0, None),
    ],
)
def test_a_stream_of_which_most_comes_at_once_tells_no_times(
    chunks: list[int], gap_ms: float, at_once: int | None
) -> None:
    instants = [round(place * gap_ms * 1e6) for place in range(len(chunks))]
    told = held_back(instants, chunks)
    assert (told is None) is (at_once is None)
    if told is not None:
        assert told.startswith(f"{at_once} of {sum(chunks)} tokens came at once: ")


def test_only_the_data_of_events_is_read() -> None:
    lines = [b": ping", b"event: x", b'data: {"a":1}\r', b"data:[DONE]"]
    assert event_data(lines) == [b'{"a":1}', b"[DONE]"]
