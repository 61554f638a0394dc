"""Nothing is compiled, or what was to be eager."""

from __future__ import annotations

from dataclasses import replace

from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation, without


def swapped(wish: Wish) -> Wish:
    """Eager where it was to be compiled."""
    return replace(wish, options={**wish.options, "compile": not wish.options["compile"]})


MUTATIONS = [
    Mutation("nothing is compiled", "compiled_step", without("compile")),
    Mutation("it is the other way round", "compiled_step", swapped),
]
