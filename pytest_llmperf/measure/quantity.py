"""How are the values of one metric over the samples told in a few numbers?"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

PERCENTILES = (50, 90, 95, 99)


class Quantity(msgspec.Struct, frozen=True, kw_only=True):
    """Values of one metric: the median is *the* value, the rest says how it spread."""

    unit: str
    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    n: int
    """Number of values."""
    percentiles: dict[str, float]
    """``p50``, ``p90``, ``p95``, ``p99``, interpolated linearly; empty: ``median`` is a mean."""
    values: list[float] | None = None
    """The value of each sample; absent where they are too many to keep, as for token gaps."""
    kind: str = "exact"
    """``exact``, ``bound`` or ``sampled``: what a byte figure is worth."""
    how: str = ""
    """How the figure was taken, or under which condition: a load is ``warm`` or ``cold``."""
    at_least: float | None = None
    """The truth is not below this. None: of a bound nothing is known, else the median is meant."""
    error: float | None = None
    """Of a mean, which ``median`` is then: its standard error; ``low`` and ``high`` are one off.
    None: it is not known."""
    slack: float = 0.0
    """What the kernel's counters may hide of a byte figure, either way."""

    @property
    def least(self) -> float:
        """The smallest value that the truth can have."""
        lowest = self.at_least
        if lowest is None:
            lowest = 0.0 if self.kind == "bound" else self.median
        return max(0.0, lowest - self.slack)


def summarize(values: Sequence[float], unit: str, *, keep: bool = True) -> Quantity:
    """The quantity of one or more values in ``unit``. Raises ValueError for none at all."""
    if not values:
        raise ValueError("nothing to summarize")
    ordered = sorted(values)
    return Quantity(
        unit=unit,
        median=statistics.median(ordered),
        low=percentile(ordered, 25),
        high=percentile(ordered, 75),
        n=len(ordered),
        percentiles={f"p{p}": percentile(ordered, p) for p in PERCENTILES},
        values=list(values) if keep else None,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Percentile of sorted values by linear interpolation (Hyndman and Fan's type 7)."""
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
