"""One of two equal arms is slowed; prompts repeat themselves; nothing is warmed up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation


class SecondArmSlowed:
    """Every other load of the same gets one thread, as if a neighbour had come."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, wish: Wish) -> Wish:
        self._count += 1
        slow = {"n_threads": 1} if self._count % 2 == 0 else {}
        return replace(wish, options={**wish.options, **slow})


def seed_ignored(patch: pytest.MonkeyPatch) -> None:
    """Every request asks the same."""
    from pytest_llmperf.measure import Workload

    real = Workload.request
    patch.setattr(Workload, "request", lambda self, _, *given: real(self, 0, *given))


def no_warm_up(patch: pytest.MonkeyPatch) -> None:
    """The first triple is all there is."""
    from pytest_llmperf.measure import invocation

    patch.setattr(invocation, "_MOST_TRIPLES", 1)


MUTATIONS = [
    Mutation("an arm is slowed", "itself", SecondArmSlowed()),
    Mutation("prompts repeat", "never_the_same", patch=seed_ignored, quick=True),
    Mutation("no warm-up", "warms_up", patch=no_warm_up),
]
