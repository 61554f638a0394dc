"""How often is something so, and how sure is that of so many trials?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

Counts = tuple[int, int]
"""How many, of how many, in one session."""
Z = statistics.NormalDist().inv_cdf(0.975)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Percent of some trials, with its interval."""

    percent: float
    low: float
    high: float
    n: int

    @property
    def text(self) -> str:
        """``0.25 (0.11–0.58)``."""
        percent, low, high = (round(each, 2) for each in (self.percent, self.low, self.high))
        return f"{percent:.3g} ({low:.3g}–{high:.3g})"


def share(counts: Sequence[Counts]) -> Share:
    """Of all sessions' counts, with the interval of Wilson (1927).

    Its n is the number of independent trials whose mean would vary as the sessions' shares do
    (Kish 1965), and no more than there were.
    """
    n = sum(of for _, of in counts)
    p = sum(found for found, _ in counts) / n
    worth = float(n)
    spread = statistics.variance(found / of for found, of in counts) / len(counts)
    if spread > 0 and n > len(counts):
        worth = min(worth, p * (1 - p) / spread)
    middle = (p + Z * Z / (2 * worth)) / (1 + Z * Z / worth)
    half = Z / (1 + Z * Z / worth) * math.sqrt(p * (1 - p) / worth + (Z / (2 * worth)) ** 2)
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return Share(percent=100 * p, low=100 * low, high=100 * high, n=n)
