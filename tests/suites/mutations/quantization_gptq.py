"""What is loaded was never packed."""

from __future__ import annotations

from dataclasses import replace

from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation

WITH_GPTQ = ("--llmperf-python", "transformers=$LLMPERF_GPTQ_PYTHON")


def never_packed(wish: Wish) -> Wish:
    """The model that the folder was made of."""
    return replace(wish, source="trained:small")


MUTATIONS = [
    Mutation("nothing is packed", "smaller_group", never_packed, arguments=WITH_GPTQ),
]
