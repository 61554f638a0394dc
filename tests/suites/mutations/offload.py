"""All is held in RAM, or more of it than is allowed."""

from __future__ import annotations

from dataclasses import replace

from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation, without


def twice_as_much(wish: Wish) -> Wish:
    """The limit is not what was asked for."""
    if "max_memory" not in wish.options:
        return wish
    return replace(wish, options={**wish.options, "max_memory": "cpu=250MiB"})


MUTATIONS = [
    Mutation(
        "nothing is left out",
        "says_the_same",
        without("device_map", "max_memory", "offload_folder"),
    ),
    Mutation("the limit is not kept", "limit_is_kept", twice_as_much),
]
