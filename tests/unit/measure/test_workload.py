"""Are prompts the same everywhere for one seed, and different otherwise?"""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmperf.measure import Workload


def test_the_same_seed_gives_the_same_prompts() -> None:
    first, second = Workload(seed=3), Workload(seed=3)
    assert [first.prompt(i, 32000) for i in range(4)] == [second.prompt(i, 32000) for i in range(4)]


def test_no_two_positions_share_even_a_prefix() -> None:
    beginnings = {tuple(Workload().prompt(position, 32000)[:4]) for position in range(50)}
    assert len(beginnings) == 50


def test_another_seed_gives_another_prompt() -> None:
    assert Workload(seed=0).prompt(0, 32000) != Workload(seed=1).prompt(0, 32000)


@pytest.mark.parametrize("vocab_size", [1, 2, 128, 32000])
def test_ids_lie_within_the_vocabulary(vocab_size: int) -> None:
    prompt = Workload(prompt_tokens=2000).prompt(0, vocab_size)
    assert len(prompt) == 2000
    assert set(prompt) <= set(range(vocab_size))


def test_a_small_vocabulary_is_used_whole() -> None:
    assert set(Workload(prompt_tokens=2000).prompt(0, 128)) == set(range(128))


def test_the_generator_is_the_one_that_older_results_were_made_with() -> None:
    workload = Workload(prompt_tokens=6)
    assert workload.prompt(0, 32000) == [8698, 22313, 4551, 4029, 8865, 10849]
    assert workload.prompt(1, 32000) == [10472, 25192, 6926, 20009, 24818, 9281]


def test_a_request_takes_prompt_and_new_tokens_of_context() -> None:
    assert Workload(prompt_tokens=512, new_tokens=128).total_tokens == 640


@pytest.mark.parametrize("name", ["prompt_tokens", "new_tokens"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "8", None])
def test_a_count_that_is_none_is_refused_by_name(name: str, value: object) -> None:
    counts: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least 1, not "):
        Workload(**counts)
