"""A pytest plugin that spoils what a suite asks for, as LLMPERF_MUTATION says.

``-p tests.suites.mutations`` in the run of a suite. Each mutation changes what is to be loaded, so
that an optimization does nothing, or its output is broken.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from pytest_llmperf.loader import Loader
from pytest_llmperf.wish import Wish

VARIABLE = "LLMPERF_MUTATION"
Mutation = Callable[[Wish], Wish]


def all_levels_are(level: str) -> Mutation:
    """Quantizing does nothing, or the same whatever is asked for."""
    return lambda wish: replace(wish, quantization=level)


def levels_are_swapped(wish: Wish) -> Wish:
    """The smallest where the largest was meant."""
    swapped = {"Q8_0": "Q2_K", "Q2_K": "Q8_0", "F16": "F16"}
    return replace(wish, quantization=swapped.get(wish.quantization or "", wish.quantization))


MUTATIONS: dict[str, Mutation] = {
    "all levels are F16": all_levels_are("F16"),
    "levels are swapped": levels_are_swapped,
}


def pytest_configure(config: pytest.Config) -> None:
    """Have every load spoiled."""
    del config
    mutate, understand = MUTATIONS[os.environ[VARIABLE]], Loader._understand

    def spoiled(self: Loader, caller: str, wish: Wish) -> object:
        return understand(self, caller, mutate(wish))

    Loader._understand = spoiled  # type: ignore[method-assign,assignment] # for this run alone
