"""Caches are never off, of another kind or another size; or a first turn is forgotten."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_llmperf.models.layers_hf import MODEL_TYPES
from pytest_llmperf.running_test import RunningTest
from tests.suites.mutation import Mutation, without


def forgotten(patch: pytest.MonkeyPatch) -> None:
    """What was said before is read again."""
    measure = RunningTest.measure

    def reading_all(self: RunningTest, model: Any, workload: Any, *rest: Any) -> Any:
        tokens = workload.depth + workload.prompt_tokens
        all_of_it = msgspec.structs.replace(workload, depth=0, prompt_tokens=tokens)
        return measure(self, model, all_of_it, *rest)

    patch.setattr(RunningTest, "measure", reading_all)


def never_shared(patch: pytest.MonkeyPatch) -> None:
    """Every head has keys of its own."""
    patch.setitem(MODEL_TYPES, "gpt_bigcode", MODEL_TYPES["gpt2"])


KIND = without("cache_implementation", "cache_group_size", "cache_residual_length")
MUTATIONS = [
    Mutation("there is always a cache", "without_a_cache", KIND),
    Mutation("no cache is static", "static", KIND),
    Mutation("no cache is quantized", "quarter", KIND),
    Mutation("the first turn is forgotten", "second_turn", patch=forgotten),
    Mutation(
        "any context is the same", "heads_and_bits and QA", without("n_ctx"), failed=2, quick=True
    ),
    Mutation("all types are f16", "heads_and_bits and q8_0", without("type_k", "type_v")),
    Mutation("keys are never shared", "octocoder and True", patch=never_shared, quick=True),
]
