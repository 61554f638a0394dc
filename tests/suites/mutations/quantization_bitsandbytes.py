"""Nothing is packed, or into other bits; the type to compute in is ignored."""

from __future__ import annotations

from dataclasses import replace

from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation, without


def swapped(wish: Wish) -> Wish:
    """Four bits where eight were meant, and the other way round."""
    other = {"int8": "fp4", "fp4": "int8"}
    packing = wish.options.get("quantize")
    if packing not in other:
        return wish
    return replace(wish, options={**wish.options, "quantize": other[packing]})


MUTATIONS = [
    Mutation("nothing is packed", "nf4 and (held or says)", without("quantize"), failed=2),
    Mutation("eight bits are four", "says and int8", swapped),
    Mutation("one type computes", "float16_computes", without("dtype")),
]
