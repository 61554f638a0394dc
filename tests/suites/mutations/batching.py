"""Batches bring nothing, or continuous batching is static, or the wrong way round."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.measure.timeline import Sample
from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation

SLOTS = 4
STATIC: dict[str, object] = {"static_batch": SLOTS}
CONTINUOUS: dict[str, object] = {"batching": "continuous", "max_requests_per_batch": SLOTS}


def decoded(wish: Wish, how: dict[str, object]) -> Wish:
    """In this way, with as many threads."""
    threads = {name: value for name, value in wish.options.items() if name == "num_threads"}
    return replace(wish, options={**how, **threads})


def all_are_static(wish: Wish) -> Wish:
    """Nobody is let in before all others have ended."""
    return decoded(wish, STATIC) if "batching" in wish.options else wish


def swapped(wish: Wish) -> Wish:
    """Each is the other."""
    return decoded(wish, STATIC if "batching" in wish.options else CONTINUOUS)


def only_one_counts(patch: pytest.MonkeyPatch) -> None:
    """A batch gives no more than one of its sequences would."""
    patch.setattr(Sample, "decode_tps", Sample.steps_per_s)


MUTATIONS = [
    Mutation("continuous is static", "no_place", all_are_static),
    Mutation("the two are swapped", "one_thread", swapped),
    Mutation("batches bring nothing", "sooner", patch=only_one_counts),
    Mutation("batches bring nothing to transformers", "half_as_much", patch=only_one_counts),
]
