"""What is done to a suite so that it has to fail?"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

import tests.suites.mutations as folder
from pytest_llmperf.wish import Wish


def unchanged(wish: Wish) -> Wish:
    """Whatever was asked for."""
    return wish


def nothing(patch: pytest.MonkeyPatch) -> None:
    """Leave the program as it is."""


def without(*options: str) -> Callable[[Wish], Wish]:
    """The named options are silently ignored: what they ask for is off."""
    return lambda wish: replace(
        wish, options={name: value for name, value in wish.options.items() if name not in options}
    )


@dataclass(frozen=True)
class Mutation:
    """One way of spoiling what a suite relies on: its technique is off, or its effect reversed."""

    name: str
    tests: str
    """Those of the suite that are run, as ``-k`` takes it; all of them have to fail."""
    wish: Callable[[Wish], Wish] = unchanged
    """What becomes of everything that is to be loaded."""
    patch: Callable[[pytest.MonkeyPatch], None] = nothing
    """What is changed in the pytest process before anything is collected."""
    failed: int = 1
    """How many tests those are."""
    quick: bool = False
    """Whether it takes seconds: `make heavy` runs these, `make suites` all."""
    arguments: tuple[str, ...] = ()
    """More words for pytest; ``$NAME`` is taken from the environment, and without it there the
    mutation is skipped."""


def find_mutations() -> dict[str, Mutation]:
    """All there are, by ``suite: name``. A suite's are in the module of its name."""
    found: dict[str, Mutation] = {}
    for module in pkgutil.iter_modules(folder.__path__):
        loaded = importlib.import_module(f"{folder.__name__}.{module.name}")
        found |= {f"{module.name}: {each.name}": each for each in loaded.MUTATIONS}
    return found
