"""A pytest plugin that spoils a run of a suite as LLMPERF_MUTATION says.

``-p tests.suites.spoiler`` in that run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pytest_llmperf.loader import Loader
from pytest_llmperf.wish import Wish
from pytest_llmperf.worker.pool import LoadedModel
from tests.suites.mutation import find_mutations

VARIABLE = "LLMPERF_MUTATION"
_PATCH = pytest.MonkeyPatch()


def pytest_configure(config: pytest.Config) -> None:
    """Spoil every load, and what else is to be spoiled."""
    del config
    mutation = find_mutations()[os.environ[VARIABLE]]
    load, understand = Loader.load, Loader._understand

    def spoiled(self: Loader, caller: str, wish: Wish) -> object:
        return understand(self, caller, mutation.wish(wish))

    def fitted(self: Loader, wish: Wish, timeout_s: float) -> LoadedModel:
        """What fits is chosen before the rest is understood."""
        return load(self, replace(wish, fit=mutation.wish(wish).fit), timeout_s)

    _PATCH.setattr(Loader, "_understand", spoiled)
    _PATCH.setattr(Loader, "load", fitted)
    mutation.patch(_PATCH)


@pytest.hookimpl(wrapper=True)
def pytest_unconfigure(config: pytest.Config) -> Iterator[None]:
    """As it was."""
    del config
    yield
    _PATCH.undo()
