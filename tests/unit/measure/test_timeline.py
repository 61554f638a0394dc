"""Are the formulas of docs/metrics.md what is computed? All timelines are worked out by hand."""

from __future__ import annotations

import pytest

from pytest_llmperf.measure.timeline import InvalidSample, Sample, read_sample
from pytest_llmperf.worker.messages import Generated

MS = 1_000_000


def answer(*instants_ms: float, started_ms: float = 1000, count: int | None = None) -> Generated:
    """Tokens at these instants, on a clock that stood at one second when the request began."""
    return Generated(
        started_ns=round(started_ms * MS),
        instants_ns=[round(instant * MS) for instant in instants_ms],
        token_ids=[1] * len(instants_ms),
        count=len(instants_ms) if count is None else count,
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


@pytest.mark.parametrize(
    ("generated", "asked", "message"),
    [
        (answer(1200, 1300), 3, "2 tokens generated, 3 asked for"),
        (answer(1200, 1300, count=4), 2, "4 tokens generated, 2 asked for"),
        (answer(), 1, "0 tokens generated, 1 asked for"),
        (answer(1200, 1300, 1299), 3, "token times run backwards"),
        (answer(999, 1300), 2, "token times run backwards"),
        (answer(1000, 1300), 2, "tokens took no time at all"),
        (answer(1200, 1200, 1200), 3, "tokens took no time at all"),
    ],
    ids=["few", "many", "none", "backwards", "before the start", "no prefill", "no decode"],
)
def test_a_request_that_breaks_a_rule_is_invalid(
    generated: Generated, asked: int, message: str
) -> None:
    with pytest.raises(InvalidSample, match=f"^{message}$"):
        read_sample(generated, 50, asked)
