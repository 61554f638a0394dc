"""All attention is of one kind, whatever is asked for."""

from __future__ import annotations

from dataclasses import replace

from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation, without


def all_off(wish: Wish) -> Wish:
    """llama.cpp has no flash attention."""
    return replace(wish, options={**wish.options, "flash_attn": "off"})


MUTATIONS = [
    Mutation("transformers ignores it", "memory_of_transformers", without("attn_implementation")),
    Mutation("one kernel computes all", "says_what_eager", without("attn_implementation")),
    Mutation("llama.cpp has one kernel", "says_the_same", without("flash_attn")),
    Mutation("llama.cpp has none", "memory_of_llama", all_off),
    Mutation("llama.cpp ignores it", "memory_of_llama", without("flash_attn"), quick=True),
]
