"""Which passages of a text are prompts, so that no two requests have the same?"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

_GOLDEN = (math.sqrt(5) - 1) / 2
"""A step of this share of a text comes late to where it has been, or near to it."""


@dataclass(frozen=True)
class Passages:
    """The tokens of a text, from which prompts are cut."""

    ids: Sequence[int]
    begin: int | None = None
    """What the tokenizer puts before every text: it takes the place of a prompt's first token."""

    def count(self, length: int) -> int:
        """How many passages of ``length`` tokens there are, each with a beginning of its own."""
        return max(0, len(self.ids) - length + 1)

    def take(self, number: int, length: int, seed: str) -> list[int]:
        """Passage ``number`` of an order that ``seed`` decides.

        Raises ValueError where there are no so many.
        """
        count = self.count(length)
        if number >= count:
            raise ValueError(f"{count} passages of {length} tokens, and none with number {number}")
        offset = random.Random(seed).randrange(count)  # noqa: S311 - reproducible
        at = (offset + number * _stride(count)) % count
        passage = list(self.ids[at : at + length])
        return passage if self.begin is None else [self.begin, *passage[1:]]


def _stride(count: int) -> int:
    """Without a divisor in common with ``count``: so many steps come to every place once."""
    step = max(1, round(count * _GOLDEN))
    while math.gcd(step, count) != 1:
        step += 1
    return step
