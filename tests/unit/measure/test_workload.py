"""Are prompts the same everywhere for one seed, and different otherwise?"""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmperf.measure import Workload


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
