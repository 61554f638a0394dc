"""Is what vLLM's steps give taken for a step of ours only when it is one?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_llmperf.backends import UnknownOption, find_backend, read_options
from pytest_llmperf.backends.vllm import tokens_in_step


def output(name: str, *tokens: int, cached: int | None = 0) -> Any:
    return SimpleNamespace(
        request_id=name, outputs=[SimpleNamespace(token_ids=tokens)], num_cached_tokens=cached
    )


def test_tokens_come_in_the_order_of_the_sequences() -> None:
    assert tokens_in_step([output("b", 2), output("a", 1)], ["a", "b"], 0) == [1, 2]


@pytest.mark.parametrize(
    "outputs",
    [
        [output("a", 1)],
        [output("a", 1), output("b")],
        [output("a", 1), output("b", 2, 3)],
        [output("a", 1), output("c", 2)],
        [output("a", 1), output("b", 2), output("c", 3)],
    ],
)
def test_what_is_no_step_is_an_error(outputs: list[Any]) -> None:
    with pytest.raises(RuntimeError, match=r"vLLM decoded 2 sequences out of step: .*'a'"):
        tokens_in_step(outputs, ["a", "b"], 0)


@pytest.mark.parametrize(("depth", "cached"), [(0, 16), (64, 0), (64, 48)])
def test_only_what_was_read_ahead_may_come_from_the_prefix_cache(depth: int, cached: int) -> None:
    said = rf"took \{{{cached}\}} tokens from its prefix cache instead of {depth}"
    with pytest.raises(RuntimeError, match=said):
        tokens_in_step([output("a", 1, cached=cached)], ["a"], depth)
    assert tokens_in_step([output("a", 1, cached=depth)], ["a"], depth) == [1]
    assert tokens_in_step([output("a", 1, cached=None)], ["a"], depth) == [1]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_model_length": 512}, "has no option 'max_model_length', did you mean 'max_model_l"),
        ({"gpu_memory_utilisation": 0.5}, "did you mean 'gpu_memory_utilization'"),
        ({"gpu_memory_utilization": 1.5}, r"float` <= 1.0 - at `\$.gpu_memory_utilization`"),
        ({"max_num_seqs": 0}, r"int` >= 1 - at `\$.max_num_seqs`"),
        ({"dtype": "int4"}, r"Invalid enum value 'int4' - at `\$.dtype`"),
    ],
)
def test_a_wrong_option_is_named_with_its_cure(given: dict[str, object], words: str) -> None:
    with pytest.raises(UnknownOption, match=words):
        read_options(find_backend("vllm"), given)
