"""Is it said when the engine's own clock and ours differ, and only then?"""

from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf.backends import EngineTimings
from pytest_llmperf.measure.engine_clock import compare_clocks, disagreements
from pytest_llmperf.measure.timeline import Sample

SAMPLE = Sample(
    prompt_tokens=8, new_tokens=3, ttft_s=0.1, e2e_s=0.5, whole_s=0.5, gaps_s=[0.2, 0.2]
)


def timed(total_s: float, prefill_s: float | None = None, decode_s: float | None = None) -> Sample:
    told = EngineTimings(total_s=total_s, prefill_s=prefill_s, decode_s=decode_s)
    return msgspec.structs.replace(SAMPLE, timings=told)


def test_every_span_that_the_engine_tells_is_compared() -> None:
    compared = compare_clocks([timed(0.5, 0.099, 0.401)] * 3)
    assert [(each.span, each.ours_s, each.engine_s) for each in compared] == [
        ("prefill", 0.1, 0.099),
        ("decode", 0.4, 0.401),
        ("request", 0.5, 0.5),
    ]
    assert disagreements(compared, "llama-cpp") == []


def test_an_engine_that_cannot_tell_the_phases_apart_is_compared_as_a_whole() -> None:
    assert [each.span for each in compare_clocks([timed(0.5)])] == ["request"]


def test_an_engine_without_a_clock_is_not_compared() -> None:
    assert compare_clocks([SAMPLE]) == []
    assert compare_clocks([SAMPLE, timed(0.5)]) == []
    assert compare_clocks([]) == []


@pytest.mark.parametrize(
    ("engine_s", "said"), [(0.3921, False), (0.4079, False), (0.3919, True), (0.4081, True)]
)
def test_two_percent_is_still_agreement(engine_s: float, said: bool) -> None:
    (decode,) = [
        each for each in compare_clocks([timed(0.5, 0.1, engine_s)]) if each.span == "decode"
    ]
    assert bool(disagreements([decode], "x")) is said


def test_a_disagreement_has_both_times_and_the_difference() -> None:
    (said,) = disagreements(compare_clocks([timed(0.45)]), "llama-cpp")
    assert said.startswith(
        "llama-cpp's own clock says 450 ms for the request, ours 500 ms (-10.0%)"
    )


def test_medians_are_compared_so_that_one_odd_sample_says_nothing() -> None:
    assert disagreements(compare_clocks([timed(0.5), timed(0.5), timed(5.0)]), "x") == []
