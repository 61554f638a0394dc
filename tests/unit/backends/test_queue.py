"""Who is decoded with whom? Both schedules worked out by hand."""

from __future__ import annotations

import pytest

from pytest_llmperf.backends import Request
from pytest_llmperf.backends.queue import continuous_steps, static_batches, static_steps

LENGTHS = [1, 3, 2, 1, 2]


def test_a_static_batch_goes_on_until_its_longest_is_done() -> None:
    assert static_steps(LENGTHS, 2) == [[0, 1], [1], [1], [2, 3], [2], [4], [4]]


def test_continuously_the_next_begins_as_soon_as_one_has_ended() -> None:
    assert continuous_steps(LENGTHS, 2) == [[0, 1], [1, 2], [1, 2], [3, 4], [4]]


@pytest.mark.parametrize("most", [1, 2, 3, 5, 9])
def test_every_request_gets_its_own_tokens_and_no_step_is_too_wide(most: int) -> None:
    for steps in (static_steps(LENGTHS, most), continuous_steps(LENGTHS, most)):
        brought = [sum(place in step for step in steps) for place in range(len(LENGTHS))]
        assert brought == LENGTHS
        assert all(0 < len(step) <= most for step in steps)


def test_one_at_a_time_is_the_same_either_way() -> None:
    assert static_steps(LENGTHS, 1) == continuous_steps(LENGTHS, 1)


def test_batches_take_their_prompts_and_their_longest_with_them() -> None:
    request = Request(prompts=[[1], [2], [3]], new_tokens=9, lengths=[4, 9, 2])
    told = [(each.prompts, each.new_tokens, places) for each, places in static_batches(request, 2)]
    assert told == [([[1], [2]], 9, [0, 1]), ([[3]], 2, [2])]
    ((whole, places),) = static_batches(request, None)
    assert (whole.batch, places) == (3, [0, 1, 2])
