"""The number of threads is ignored; or the build has no vector instructions."""

from __future__ import annotations

import msgspec
import pytest

from tests.suites.mutation import Mutation, without


def plain_build(patch: pytest.MonkeyPatch) -> None:
    """llama.cpp as somebody built it for every machine there ever was."""
    from pytest_llmperf.worker import pool

    real = pool._load

    def load(*given: object) -> pool.LoadedModel:
        model = real(*given)  # type: ignore[arg-type]  # handed on as it came
        model.engine = msgspec.structs.replace(model.engine, build="CPU : SSE3 = 1 | OPENMP = 1")
        return model

    patch.setattr(pool, "_load", load)


MUTATIONS = [
    Mutation("threads are ignored", "so_many_threads[1]", without("n_threads")),
    Mutation("threads give nothing", "two_threads", without("n_threads")),
    Mutation("no vector instructions", "vector_instructions", patch=plain_build, quick=True),
]
