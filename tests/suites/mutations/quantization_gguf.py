"""Quantizing does nothing, or the same whatever is asked for; or it is the wrong way round."""

from __future__ import annotations

from dataclasses import replace

from pytest_llmperf.wish import Wish
from tests.suites.mutation import Mutation


def all_are_f16(wish: Wish) -> Wish:
    """No level is what it says."""
    return replace(wish, quantization="F16")


def swapped(wish: Wish) -> Wish:
    """The smallest where the largest was meant."""
    other = {"Q8_0": "Q2_K", "Q2_K": "Q8_0"}
    return replace(wish, quantization=other.get(wish.quantization or "", wish.quantization))


MUTATIONS = [
    Mutation("all are F16", "farther_away or (f16_says and Q4_0)", all_are_f16, failed=2),
    Mutation("levels are swapped", "f16_says and Q8_0", swapped, quick=True),
    Mutation("nothing is smaller", "fewer_bits_are_smaller", all_are_f16),
    Mutation("nothing is faster", "smaller_and_faster", all_are_f16),
]
