"""Checkpointing is not done, or where it was not asked for."""

from __future__ import annotations

from dataclasses import replace

from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation, without


def swapped(wish: Wish) -> Wish:
    """With it where it was to be without."""
    on = not wish.options["gradient_checkpointing"]
    return replace(wish, options={**wish.options, "gradient_checkpointing": on})


MUTATIONS = [
    Mutation("it is off", "smaller", without("gradient_checkpointing")),
    Mutation("it is the other way round", "smaller", swapped),
]
