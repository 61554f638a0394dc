"""Are prompts the same everywhere for one seed, and different otherwise?"""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmperf.measure import Workload
from pytest_llmperf.measure.passages import Passages


def prompt(workload: Workload, position: int, vocab_size: int) -> list[int]:
    """The prompt of the only sequence."""
    (only,) = workload.request(position, vocab_size).prompts
    return only


def test_the_same_seed_gives_the_same_prompts() -> None:
    first, second = Workload(seed=3), Workload(seed=3)
    for position in range(4):
        assert prompt(first, position, 32000) == prompt(second, position, 32000)


def test_no_two_positions_share_even_a_prefix() -> None:
    beginnings = {tuple(prompt(Workload(), position, 32000)[:4]) for position in range(50)}
    assert len(beginnings) == 50


def test_another_seed_gives_another_prompt() -> None:
    assert prompt(Workload(seed=0), 0, 32000) != prompt(Workload(seed=1), 0, 32000)


def test_a_salt_gives_other_prompts_and_the_same_ones_again() -> None:
    plain, salted, other = (Workload().request(0, 32000, salt).prompts for salt in ("", "a", "b"))
    assert plain == Workload().request(0, 32000).prompts
    assert salted == Workload().request(0, 32000, "a").prompts
    assert len({tuple(only) for (only,) in (plain, salted, other)}) == 3


@pytest.mark.parametrize("vocab_size", [1, 2, 128, 32000])
def test_ids_lie_within_the_vocabulary(vocab_size: int) -> None:
    ids = prompt(Workload(prompt_tokens=2000), 0, vocab_size)
    assert len(ids) == 2000
    assert set(ids) <= set(range(vocab_size))


def test_a_small_vocabulary_is_used_whole() -> None:
    assert set(prompt(Workload(prompt_tokens=2000), 0, 128)) == set(range(128))


def test_the_generator_is_the_one_that_older_results_were_made_with() -> None:
    workload = Workload(prompt_tokens=6)
    assert prompt(workload, 0, 32000) == [8698, 22313, 4551, 4029, 8865, 10849]
    assert prompt(workload, 1, 32000) == [10472, 25192, 6926, 20009, 24818, 9281]


def test_a_request_takes_prompt_and_new_tokens_of_context() -> None:
    assert Workload(prompt_tokens=512, new_tokens=128).total_tokens == 640


def test_the_sequences_of_a_batch_have_prompts_of_their_own() -> None:
    request = Workload(prompt_tokens=8, depth=4, batch=3, new_tokens=2).request(0, 32000)
    assert [len(each) for each in request.prompts] == [12, 12, 12]
    assert len({tuple(each) for each in request.prompts}) == 3
    assert (request.batch, request.depth, request.total_tokens) == (3, 4, 14)


def test_prompts_of_a_text_are_passages_of_it() -> None:
    text, asked = Passages(range(1000, 1100)), Workload(prompt_tokens=8, depth=4, batch=3)
    prompts = [each for at in range(5) for each in asked.request(at, 32000, text=text).prompts]
    for each in prompts:
        assert each == list(range(each[0], each[0] + 12))
        assert set(each) <= set(text.ids)
    assert len({each[0] for each in prompts}) == 15, "none begins where another does"
    assert asked.request(0, 32000, text=text) == asked.request(0, 7, text=text)


def test_a_text_as_long_as_a_prompt_is_taken_whole() -> None:
    text = Passages([5, 6, 7])
    (only,) = Workload(prompt_tokens=3).request(0, 9, text=text).prompts
    assert only == [5, 6, 7]
    with pytest.raises(ValueError, match="1 passages of 3 tokens, and none with number 1"):
        Workload(prompt_tokens=3).request(1, 9, text=text)


@pytest.mark.parametrize("value", [None, 3, ""])
def test_prompts_that_name_no_text_are_refused(value: object) -> None:
    given: dict[str, Any] = {"prompts": value}
    with pytest.raises(ValueError, match=r"^prompts must be 'random', 'shipped' or the path of a"):
        Workload(**given)


def test_the_decode_is_placed_at_the_middle_of_its_depth() -> None:
    assert Workload(prompt_tokens=100, new_tokens=50, depth=400).decode_depth == 525


@pytest.mark.parametrize("value", [-1, True, 1.5])
def test_a_depth_below_zero_is_refused(value: object) -> None:
    given: dict[str, Any] = {"depth": value}
    with pytest.raises(ValueError, match=r"^depth must be a whole number of at least 0, not "):
        Workload(**given)


@pytest.mark.parametrize("name", ["prompt_tokens", "new_tokens", "batch"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "8", None])
def test_a_count_that_is_none_is_refused_by_name(name: str, value: object) -> None:
    counts: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least 1, not "):
        Workload(**counts)


def test_the_lengths_of_a_queue_are_spread_evenly_and_shuffled() -> None:
    queue = Workload(new_tokens=64, shortest=8, batch=8)
    assert sorted(queue.lengths) == [8, 16, 24, 32, 40, 48, 56, 64]
    assert queue.lengths != sorted(queue.lengths)
    assert queue.lengths == queue.request(5, 100).lengths
    assert queue.lengths != Workload(new_tokens=64, shortest=8, batch=8, seed=1).lengths


def test_the_lengths_of_a_queue_are_those_that_older_results_were_made_with() -> None:
    assert Workload(new_tokens=9, shortest=2, batch=5).lengths == [7, 9, 4, 6, 2]


def test_without_a_shortest_there_is_no_queue() -> None:
    assert Workload(batch=4).lengths == Workload(batch=4).request(0, 100).lengths == []
    assert (Workload(new_tokens=64).new, Workload(new_tokens=64, shortest=8, batch=2).new) == (
        "64",
        "8..64",
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"shortest": 64}, r"such as \(8, 64\), not \(64, 64\)"),
        ({"shortest": 0}, r"not \(0, 64\)"),
        ({"shortest": True}, r"not \(True, 64\)"),
        ({"shortest": 8, "batch": 1}, "takes batch=2 or more requests and depth=0, not batch=1"),
        ({"shortest": 8, "depth": 9}, "not batch=4 and depth=9"),
    ],
)
def test_what_is_no_queue_is_refused(fields: dict[str, int], words: str) -> None:
    given: dict[str, Any] = {"new_tokens": 64, "batch": 4, **fields}
    with pytest.raises(ValueError, match=words):
        Workload(**given)
