"""Engines are taken for one another, or lose tokens."""

from __future__ import annotations

from dataclasses import replace

from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation


def swapped(wish: Wish) -> Wish:
    """Each is the other."""
    other = {"llama-cpp": "transformers", "transformers": "llama-cpp"}
    return replace(wish, backend=other.get(wish.backend or "", wish.backend))


def loses_a_token(wish: Wish) -> Wish:
    """An engine that ends a request early."""
    return replace(wish, backend="fake", options={"missing_tokens": 1})


MUTATIONS = [
    Mutation("engines are swapped", "beats", swapped),
    Mutation("a token is lost", "this_environment and llama", loses_a_token),
]
