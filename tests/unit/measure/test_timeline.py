"""Are the formulas of docs/metrics.md what is computed? All timelines are worked out by hand."""

from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf.measure.timeline import InvalidSample, Queue, Sample, read_queue, read_sample
from pytest_llmperf.worker.messages import Generated
from tests.unit.worker.answers import generated

MS = 1_000_000


def answer(
    *instants_ms: float,
    started_ms: float = 1000,
    count: int | None = None,
    chunks: tuple[int, ...] = (),
) -> Generated:
    """Tokens at these instants, on a clock that stood at one second when the request began."""
    tokens = sum(chunks) if chunks else len(instants_ms)
    return generated(
        started_ns=round(started_ms * MS),
        instants_ns=[round(instant * MS) for instant in instants_ms],
        chunk_tokens=chunks,
        count=tokens if count is None else count,
    )


def sample(*instants_ms: float, prompt_tokens: int = 50) -> Sample:
    return read_sample(answer(*instants_ms), prompt_tokens, len(instants_ms))


def test_first_token_is_t1_less_t0() -> None:
    assert sample(1200, 1250).ttft_s == pytest.approx(0.200)


def test_prefill_is_prompt_tokens_over_the_first_token_alone() -> None:
    assert sample(1200, 9000, prompt_tokens=50).prefill_tps == pytest.approx(250)


def test_decode_is_over_the_gaps_not_over_the_tokens() -> None:
    five_tokens = sample(1200, 1250, 1300, 1350, 1600)
    assert five_tokens.decode_tps == pytest.approx(4 / 0.400)


def test_time_per_token_is_the_mean_gap_after_the_first() -> None:
    assert sample(1200, 1250, 1300, 1350, 1600).tpot_s == pytest.approx(0.100)


def test_gaps_lie_between_consecutive_tokens() -> None:
    assert sample(1200, 1250, 1350, 1350, 1600).gaps_s == pytest.approx([0.05, 0.1, 0, 0.25])


def test_a_request_ends_with_its_last_token() -> None:
    assert sample(1200, 1250, 1600).e2e_s == pytest.approx(0.600)


def test_a_single_token_has_no_decode() -> None:
    one = sample(1200)
    assert (one.decode_tps, one.tpot_s, one.gaps_s) == (None, None, [])
    assert one.prefill_tps == pytest.approx(250)
    assert one.e2e_s == one.ttft_s


def test_a_batch_reads_and_decodes_for_all_its_sequences() -> None:
    four = read_sample(answer(1200, 1250, 1300), prompt_tokens=50, new_tokens=3, batch=4)
    assert four.prefill_tps == pytest.approx(4 * 250)
    assert four.steps_per_s == pytest.approx(20)
    assert four.decode_tps == pytest.approx(4 * 20)
    assert four.tpot_s == pytest.approx(0.050)


def test_the_tokens_of_a_chunk_share_its_gap() -> None:
    """One token at 1200, three at 1260, two at 1280 ms."""
    chunked = read_sample(answer(1200, 1260, 1280, chunks=(1, 3, 2)), 50, 6)
    assert chunked.gaps_s == pytest.approx([0.020, 0.020, 0.020, 0.010, 0.010])
    assert chunked.chunk_gaps_s == pytest.approx([0.060, 0.020])
    assert chunked.decode_tps == pytest.approx(5 / 0.080)


def test_the_gaps_within_a_first_chunk_are_not_made_up() -> None:
    chunked = read_sample(answer(1200, 1300, chunks=(4, 2)), 50, 6)
    assert chunked.gaps_s == pytest.approx([0.050, 0.050])
    assert chunked.decode_tps == pytest.approx(2 / 0.100)


def test_tokens_one_by_one_have_no_chunks() -> None:
    assert sample(1200, 1250).chunk_gaps_s is None


@pytest.mark.parametrize(
    ("answered", "asked", "message"),
    [
        (answer(1200, 1300), 3, "2 tokens generated, 3 asked for"),
        (answer(1200, 1300, count=4), 2, "4 tokens generated, 2 asked for"),
        (answer(), 1, "0 tokens generated, 1 asked for"),
        (answer(1200, 1300, 1299), 3, "token times run backwards"),
        (answer(999, 1300), 2, "token times run backwards"),
        (answer(1000, 1300), 2, "tokens took no time at all"),
        (answer(1200, 1200, 1200), 3, "tokens took no time at all"),
        (answer(1200, 1300, chunks=(1, 1), count=3), 3, "2 tokens have a time, 3 were generated"),
    ],
    ids=["few", "many", "none", "backwards", "before t0", "no prefill", "no decode", "chunks"],
)
def test_a_request_that_breaks_a_rule_is_invalid(
    answered: Generated, asked: int, message: str
) -> None:
    with pytest.raises(InvalidSample, match=f"^{message}$"):
        read_sample(answered, 50, asked)


def queue(sequences: list[int], *instants_ms: float, chunks: tuple[int, ...]) -> Generated:
    """A queue whose tokens came to these requests, so many at each of the instants."""
    whole = answer(*instants_ms, chunks=chunks)
    return msgspec.structs.replace(whole, sequences=sequences)


def test_a_queue_is_timed_as_a_whole_and_has_no_gaps() -> None:
    whole = read_queue(queue([0, 1, 0, 2], 1100, 1200, 1400, chunks=(2, 1, 1)), 50, [2, 1, 1])
    assert whole.queue == Queue(tokens=4, steps=3)
    assert whole.e2e_s == pytest.approx(0.4)
    assert (whole.decode_tps, whole.tpot_s, whole.chunk_gaps_s) == (None, None, None)


@pytest.mark.parametrize(
    ("sequences", "words"),
    [
        ([0, 1, 0, 1], "request 2 of 3 of the queue got 2 tokens, 1 asked for"),
        ([0, 0, 1, 7], "request 3 of 3 of the queue got 0 tokens, 1 asked for"),
        ([0, 1, 2, 3], "request 1 of 3 of the queue got 1 tokens, 2 asked for"),
        ([], "request 1 of 3 of the queue got 0 tokens, 2 asked for"),
    ],
)
def test_a_request_of_a_queue_gets_exactly_its_own_tokens(sequences: list[int], words: str) -> None:
    told = queue(sequences, 1100, 1200, 1400, chunks=(2, 1, 1))
    with pytest.raises(InvalidSample, match=words):
        read_queue(told, 50, [2, 1, 1])


def test_a_token_for_nobody_in_the_queue_is_one_too_many() -> None:
    told = queue([0, 1, 0, 2, 7], 1100, 1200, 1400, chunks=(2, 1, 2))
    with pytest.raises(InvalidSample, match="5 tokens generated, 4 asked for"):
        read_queue(told, 50, [2, 1, 1])


def test_a_queue_that_an_adapter_rejects_is_no_sample() -> None:
    told = msgspec.structs.replace(queue([0], 1100, chunks=(1,)), rejected="so it was")
    with pytest.raises(InvalidSample, match="so it was"):
        read_queue(told, 50, [1])
