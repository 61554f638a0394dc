"""Of several variants, each better at something, which is no bad choice?

A variant is dominated by another that is worse in nothing and better in something. Values that
differ by no more than their noise are equal. What nothing dominates is the Pareto front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Merit:
    """How good a variant is at one thing: more is better."""

    value: float
    noise: float
    """How far off it may be, in the same unit."""

    def beats(self, other: Merit) -> bool:
        """Whether it is better by more than noise."""
        return self.value - other.value > math.hypot(self.noise, other.noise)


Merits = Sequence[Merit]
"""Of one variant, in the same order for all."""


def dominates(one: Merits, other: Merits) -> bool:
    """Whether ``one`` is worse in nothing, and better in something."""
    pairs = list(zip(one, other, strict=True))
    return any(a.beats(b) for a, b in pairs) and not any(b.beats(a) for a, b in pairs)


def front(variants: Sequence[Merits]) -> list[bool]:
    """Whether each is on the Pareto front.

    Equal within noise is not transitive, so that three can dominate each other in a circle: where
    that leaves nobody, nothing is dominated for certain, and all are on it.
    """
    on_it = [not any(dominates(other, each) for other in variants) for each in variants]
    return on_it if any(on_it) else [True] * len(variants)
