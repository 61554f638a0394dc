"""Types and contexts are ignored."""

from __future__ import annotations

from dataclasses import replace

from tests.suites.mutation import Mutation, without

MUTATIONS = [
    Mutation(
        "every type is F32",
        "take_bytes and not F32",
        lambda wish: replace(wish, quantization="F32"),
    ),
    Mutation("all are BF16", "half_the_bits", lambda wish: replace(wish, quantization="BF16")),
    Mutation("the context is ignored", "grows_with", without("n_ctx"), quick=True),
]
