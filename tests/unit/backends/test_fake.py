"""Does the scripted engine play its script, to the nanosecond?"""

from __future__ import annotations

import pytest

from pytest_llmperf.backends import Request, Timeline
from pytest_llmperf.backends.fake import Fake, FakeEngine, FakeOptions

PROMPT = list(range(100, 110))


def request(tokens: int, batch: int = 1, depth: int = 0) -> Request:
    """The prompt, for each sequence, after so many tokens of depth."""
    return Request(prompts=[[*range(depth), *PROMPT]] * batch, new_tokens=tokens, depth=depth)


def play(engine: FakeEngine, backend: Fake, tokens: int) -> Timeline:
    timeline = Timeline(tokens, backend.clock)
    engine.generate(request(tokens), timeline)
    return timeline


def instants_ms(script: FakeOptions, tokens: int, invocation: int = 0) -> list[float]:
    """Instants of one request's tokens after its start."""
    backend = Fake()
    timeline = play(backend.load(None, script, invocation), backend, tokens)
    return [(instant - timeline.started_ns) / 1e6 for instant in timeline.instants_ns]


def test_speeds_become_instants() -> None:
    script = FakeOptions(prefill_tps=1000, decode_tps=100)
    assert instants_ms(script, 4) == [10, 20, 30, 40]


def test_stated_instants_override_speeds_and_repeat() -> None:
    script = FakeOptions(token_times_ms=[5, 6, 9])
    assert instants_ms(script, 5) == [5, 6, 9, 14, 15]


def test_the_load_takes_its_time() -> None:
    backend = Fake()
    backend.load(None, FakeOptions(load_s=2.5), 0)
    assert backend.clock() == 2_500_000_000


def test_a_list_holds_a_speed_for_each_fresh_worker_and_the_last_repeats() -> None:
    script = FakeOptions(prefill_tps=1000, decode_tps=[100, 50])
    seconds = [instants_ms(script, 2, invocation)[1] - 10 for invocation in (0, 1, 2, 7)]
    assert seconds == [10, 20, 20, 20]


def test_warm_up_samples_run_at_half_speed() -> None:
    backend = Fake()
    script = FakeOptions(prefill_tps=1000, decode_tps=100, warmup_samples=2)
    engine = backend.load(None, script, 0)
    starts_and_ends = [play(engine, backend, 2) for _ in range(4)]
    took_ms = [(each.instants_ns[-1] - each.started_ns) / 1e6 for each in starts_and_ends]
    assert took_ms == [40, 40, 20, 20]


def test_noise_changes_from_sample_to_sample_and_repeats_with_the_invocation() -> None:
    def first_tokens_ns(invocation: int) -> list[int]:
        backend = Fake()
        engine = backend.load(None, FakeOptions(noise_cv=0.1), invocation)
        timelines = [play(engine, backend, 1) for _ in range(3)]
        return [each.instants_ns[0] - each.started_ns for each in timelines]

    assert len(set(first_tokens_ns(0))) == 3
    assert first_tokens_ns(0) == first_tokens_ns(0)
    assert first_tokens_ns(0) != first_tokens_ns(1)


@pytest.mark.parametrize(
    ("script", "count"),
    [
        (FakeOptions(missing_tokens=1), 3),
        (FakeOptions(missing_tokens=9), 0),
        (FakeOptions(extra_tokens=2), 6),
    ],
)
def test_tokens_can_be_missing_or_too_many(script: FakeOptions, count: int) -> None:
    backend = Fake()
    assert play(backend.load(None, script, 0), backend, 4).count == count


def test_token_ids_follow_from_the_prompt() -> None:
    backend = Fake()
    assert play(backend.load(None, FakeOptions(), 0), backend, 3).token_ids == [100, 101, 102]


def test_facts_state_the_speeds_of_this_worker() -> None:
    facts = Fake().load(None, FakeOptions(decode_tps=[100, 50], n_ctx=64), 1).facts()
    assert facts.context_tokens == 64
    assert facts.options == {"decode_tps": 50, "prefill_tps": 1000, "n_ctx": 64}


@pytest.mark.parametrize("phase", ["load", "prefill", "decode"])
def test_a_disaster_strikes_in_its_phase_and_worker_only(phase: str) -> None:
    script = FakeOptions(disaster="raise", at=phase, in_invocation=1)  # type: ignore[arg-type] # parametrized text
    assert len(instants_ms(script, 4, 0)) == 4
    with pytest.raises(RuntimeError, match="gives up"):
        instants_ms(script, 4, 1)


def test_a_disaster_in_decode_comes_after_half_of_the_tokens() -> None:
    backend = Fake()
    engine = backend.load(None, FakeOptions(disaster="raise"), 0)
    timeline = Timeline(8, backend.clock)
    with pytest.raises(RuntimeError):
        engine.generate(request(8), timeline)
    assert timeline.count == 4


def test_depth_takes_no_time_and_a_batch_no_more_than_one_sequence() -> None:
    backend = Fake()
    engine = backend.load(None, FakeOptions(prefill_tps=1000, decode_tps=100), 0)
    timeline = Timeline(3, backend.clock, batch=2)
    engine.generate(request(3, batch=2, depth=500), timeline)
    instants = [(each - timeline.started_ns) / 1e6 for each in timeline.instants_ns]
    assert instants == [10, 20, 30]
    assert len(timeline.token_ids) == 6


def test_a_chunk_comes_with_its_last_token() -> None:
    backend = Fake()
    script = FakeOptions(prefill_tps=1000, decode_tps=100, chunk_tokens=2)
    timeline = play(backend.load(None, script, 0), backend, 5)
    assert [(each - timeline.started_ns) / 1e6 for each in timeline.instants_ns] == [20, 40, 50]
    assert timeline.chunk_tokens == [2, 2, 1]


def test_the_scripted_engine_may_have_a_clock_that_is_wrong() -> None:
    backend = Fake()
    engine = backend.load(None, FakeOptions(prefill_tps=1000, decode_tps=100, engine_clock=0.9), 0)
    play(engine, backend, 3)
    told = engine.timings()
    assert told is not None
    assert (told.prefill_s, told.decode_s, told.total_s) == pytest.approx((0.009, 0.018, 0.027))
