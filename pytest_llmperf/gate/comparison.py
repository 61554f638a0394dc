"""Is A faster than B, by how much, and how sure is that? Both measured in turns, in one run.

The unit is the pair: one fresh worker of each arm, one right after the other, in the order
A B B A. What drifts meets both, and drops out of their difference.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

from pytest_llmperf.gate.statistics import t_quantile
from pytest_llmperf.gate.verdict import Verdict

LEAST_PAIRS, MOST_PAIRS = 3, 10
ALPHA = 0.002
"""Chance that a limit is called broken, or kept, wrongly: shared among all looks."""
_LOOKS = MOST_PAIRS - LEAST_PAIRS + 1
_LEAST_NOISE = 0.01
"""Of a pair's speed: three that agree by accident are no proof of silence."""
NO_NOISE = 0.0
"""At least, of what is counted, as memory is: what agrees to the byte is no accident."""
_MOST_LOG = 700.0
"""Beyond it a ratio is no number that a computer has."""
_INTERVAL = 0.975

Arm = Literal["a", "b"]


class RatioLimit(msgspec.Struct, frozen=True):
    """A limit on the ratio of A to B, larger being better for A."""

    text: str
    """As the user wrote it."""
    least: float

    @property
    def border(self) -> float:
        """On the log scale of differences."""
        return math.log(self.least)


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """What the pairs say: A's share of B's."""

    ratio: float
    low: float
    high: float
    """Ends of its interval of 95 %."""
    pairs: int


def order(pair: int) -> tuple[Arm, Arm]:
    """Which arm goes first in pair number ``pair``: A B, B A, A B, …"""
    return ("a", "b") if pair % 2 == 0 else ("b", "a")


def ratio_of(differences: Sequence[float], least_noise: float = _LEAST_NOISE) -> Ratio:
    """The ratio by the differences of the logs of each pair, A less B; there must be one."""
    middle, half = _spread(differences, _INTERVAL, least_noise)
    return Ratio(
        ratio=_raised(middle),
        low=_raised(middle - half),
        high=_raised(middle + half),
        pairs=len(differences),
    )


def wants_more(differences: Sequence[float], limits: Sequence[RatioLimit]) -> bool:
    """Whether one more pair is to be measured: until every limit is decided, within bounds.

    Without limits there is nothing to decide early, and half of the most are taken.
    """
    taken = len(differences)
    if taken < LEAST_PAIRS:
        return True
    if not limits:
        return taken < MOST_PAIRS // 2
    undecided = any(decide(differences, each) is Verdict.INCONCLUSIVE for each in limits)
    return taken < MOST_PAIRS and undecided


def decide(
    differences: Sequence[float], limit: RatioLimit, least_noise: float = _LEAST_NOISE
) -> Verdict:
    """PASSED or OVER_BUDGET when surely so, else INCONCLUSIVE.

    Every look has its part of :data:`ALPHA` (Bonferroni), so that looking often does not help.
    """
    if len(differences) < LEAST_PAIRS:
        return Verdict.INCONCLUSIVE
    middle, half = _spread(differences, 1 - ALPHA / _LOOKS, least_noise)
    if middle - half >= limit.border:
        return Verdict.PASSED
    if middle + half < limit.border:
        return Verdict.OVER_BUDGET
    return Verdict.INCONCLUSIVE


def _spread(differences: Sequence[float], share: float, least_noise: float) -> tuple[float, float]:
    """Mean, and half the width of its one-sided interval at ``share``."""
    middle = statistics.fmean(differences)
    freedom = len(differences) - 1
    if freedom == 0:
        return middle, math.inf
    sigma = max(statistics.stdev(differences), least_noise)
    return middle, t_quantile(share, freedom) * sigma / math.sqrt(len(differences))


def _raised(logarithm: float) -> float:
    return math.exp(logarithm) if logarithm < _MOST_LOG else math.inf
