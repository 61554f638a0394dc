"""Does the buffer keep what was stamped, and never more than was asked for?"""

from __future__ import annotations

from array import array

import pytest

from pytest_llmperf.backends import Timeline
from pytest_llmperf.backends.timeline import TOKENS_MARK, Clock


def ticking() -> Clock:
    """A clock that stands at 10, 20, 30 … when it is read."""
    readings = iter(range(10, 1000, 10))
    return lambda: next(readings)


def test_every_token_gets_the_instant_of_its_own_call() -> None:
    timeline = Timeline(3, ticking())
    timeline.start()
    for token_id in (7, 8, 9):
        timeline.token(token_id)
    assert timeline.started_ns == 10
    assert timeline.instants_ns == [20, 30, 40]
    assert timeline.token_ids == [7, 8, 9]


def test_fewer_tokens_than_asked_leave_no_zeros_behind() -> None:
    timeline = Timeline(8, ticking())
    timeline.start()
    timeline.token(5)
    assert (timeline.count, timeline.instants_ns, timeline.token_ids) == (1, [20], [5])


def test_tokens_beyond_the_capacity_are_counted_but_not_kept() -> None:
    timeline = Timeline(2, ticking())
    timeline.start()
    for token_id in range(4):
        timeline.token(token_id)
    assert timeline.count == 4
    assert timeline.token_ids == [0, 1]
    assert timeline.instants_ns == [20, 30]


def test_the_other_process_sees_how_many_tokens_there_are() -> None:
    marks = array("q", [99, 4])
    timeline = Timeline(1, ticking(), marks)
    assert marks.tolist() == [0, 4]
    seen = []
    for token_id in range(3):
        timeline.token(token_id)
        seen.append(marks[TOKENS_MARK])
    assert seen == [1, 2, 3]


def test_a_step_of_a_batch_has_one_instant_and_an_id_of_each_sequence() -> None:
    timeline = Timeline(2, ticking(), batch=3)
    timeline.start()
    timeline.step([1, 2, 3])
    timeline.step([4, 5, 6])
    assert (timeline.count, timeline.instants_ns) == (2, [20, 30])
    assert timeline.token_ids == [1, 2, 3, 4, 5, 6]
    assert timeline.chunk_tokens == []


def test_a_chunk_has_one_instant_for_all_its_tokens() -> None:
    timeline = Timeline(5, ticking())
    timeline.start()
    timeline.chunk([1, 2])
    timeline.chunk([3, 4, 5])
    assert (timeline.count, timeline.instants_ns) == (5, [20, 30])
    assert (timeline.chunk_tokens, timeline.token_ids) == ([2, 3], [1, 2, 3, 4, 5])


def test_chunks_beyond_the_capacity_are_counted_but_not_kept() -> None:
    timeline = Timeline(3, ticking())
    timeline.start()
    for _ in range(3):
        timeline.chunk([1, 2])
    assert timeline.count == 6
    assert (timeline.instants_ns, timeline.token_ids) == ([20, 30], [1, 2, 1])


@pytest.mark.parametrize("arrive", ["token", "step", "chunk"])
def test_the_borders_of_the_phases_are_observed_outside_of_their_times(arrive: str) -> None:
    seen: list[str] = []
    clock = ticking()

    def noticing() -> int:
        seen.append("clock")
        return clock()

    timeline = Timeline(3, noticing, observe=lambda: seen.append("border"))
    timeline.start()
    for _ in range(3):
        getattr(timeline, arrive)(7 if arrive == "token" else [7])
    assert seen == ["border", "clock", "clock", "border", "clock", "clock"]


def test_a_queue_keeps_whose_each_token_is() -> None:
    timeline = Timeline(4, ticking())
    timeline.start()
    timeline.arrive([0, 1], [7, 8])
    timeline.arrive([1], [9])
    assert (timeline.instants_ns, timeline.chunk_tokens) == ([20, 30], [2, 1])
    assert (timeline.token_ids, timeline.sequences) == ([7, 8, 9], [0, 1, 1])
    assert timeline.count == 3
