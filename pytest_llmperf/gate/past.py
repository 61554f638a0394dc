"""Which sessions is a pair compared with, and what in them is no noise?

Its current epoch, without a seed that has worn off; levels that came and stay; losses that came and
went; outliers. Pure arithmetic, on the log scale. Procedure and constants: docs/gate.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pytest_llmperf.gate.summary import InvocationSummary, SessionSummary

CENTRE_SESSIONS = 20
"""The centre is frozen after so many sessions: a rolling one would miss a slow creep."""
NOISE_SESSIONS = 20
"""The noise is that of the latest sessions."""
LEAST_NOISE = 0.005
WINSOR = 2.5 * 1.4826
SEED_UNTIL = 5
"""With so many sessions of its own a pair needs its seed no longer."""
SEEDED_SESSIONS = 3
"""A seed counts as so many sessions, enough to be judged; towards the centre as one."""
LEAST_WEIGHT_SESSIONS = 5
LEVEL = -0.8 * math.log1p(-0.03)
"""Sessions in a row that all lie further to one side are at another level."""
_LEAST_LEVEL = 2
_ANOTHER = -1
_DEVIATION = 1.2533
"""A standard deviation is so many mean absolute ones: √(π/2)."""
RETURNED_SHARE = 2 / 3
"""A loss is like an earlier one that was at least so large a share of it."""
_BACK = 1 / 3
"""It has gone when no more than so large a share of it is left: noise alone ends nothing."""


def mad(values: Sequence[float], centre: float) -> float:
    """Median absolute deviation from ``centre``."""
    return statistics.median(abs(value - centre) for value in values)


def grown(history: Sequence[SessionSummary]) -> list[SessionSummary]:
    """The history; without its seed once the current epoch has enough sessions of its own."""
    own = [each for each in history if not each.seeded]
    return own if len(_latest_epoch(own)) >= SEED_UNTIL else list(history)


def current(history: Sequence[SessionSummary]) -> list[SessionSummary]:
    """The sessions of the latest epoch; a seed only until there are enough others."""
    return _latest_epoch(grown(history))


def _latest_epoch(history: Sequence[SessionSummary]) -> list[SessionSummary]:
    return [each for each in history if each.epoch == history[-1].epoch] if history else []


def counted(history: Sequence[SessionSummary]) -> int:
    """How many sessions of the current epoch there are to be judged by."""
    now = current(history)
    seeded = any(each.seeded for each in now)
    return sum(not each.seeded for each in now) + SEEDED_SESSIONS * seeded


def centred(labels: Sequence[int], values: Sequence[float]) -> list[float]:
    """Less the median of those that have the same label."""
    alike: dict[int, list[float]] = {}
    for label, value in zip(labels, values, strict=True):
        alike.setdefault(label, []).append(value)
    middles = {label: statistics.median(each) for label, each in alike.items()}
    return [value - middles[label] for label, value in zip(labels, values, strict=True)]


def levels_of(history: Sequence[SessionSummary], weight: float) -> list[int]:
    """Which sessions share a centre: those of one epoch, but for a level that came and stays."""
    labels = [each.epoch for each in history]
    stays = last_level([adjusted(each, weight) for each in _latest_epoch(history)], LEVEL)
    return [*labels[: len(labels) - stays], *[_ANOTHER] * stays]


def last_level(values: Sequence[float], least: float) -> int:
    """How many of the last values, at least two, are at another level than those before them.

    All of them lie to one side, further than ``least`` and than two standard deviations. A loss
    that is recorded again and again must neither become the normal, which only an acceptance may
    do, nor pass for noise. 0: there is no such level.
    """
    for begin in range(LEAST_WEIGHT_SESSIONS, len(values) - _LEAST_LEVEL + 1):
        centre = statistics.median(values[: min(begin, CENTRE_SESSIONS)])
        low, high = min(values[begin:]) - centre, max(values[begin:]) - centre
        if -least <= high and low <= least:
            continue
        spread = statistics.fmean(abs(value - centre) for value in values[:begin])
        border = 2 * _DEVIATION * spread
        if high < -border or low > border:
            return len(values) - begin
    return 0


def adjusted(summary: InvocationSummary, weight: float) -> float:
    """z: the value less the probe's part."""
    return summary.log_value - weight * (summary.log_probe or 0.0)


def came_and_went(heights: Sequence[float], allowed: int = 1) -> float:
    """The largest height that was reached, and left again, more than ``allowed`` times.

    ``heights`` in the order of time. What was reached and stays does not count: that is a change,
    and no habit. 0: there is none.
    """
    for height in sorted((each for each in heights if each > 0), reverse=True):
        ended, is_up = 0, False
        for each in heights:
            ended += is_up and each <= _BACK * height
            is_up = each >= height or (is_up and each > _BACK * height)
        if ended > allowed:
            return height
    return 0.0


def winsorized(residuals: Sequence[float]) -> list[float]:
    """Outliers drawn in to the border, which lies at that of the least noise or further out."""
    most = max(WINSOR * mad(residuals, statistics.median(residuals)), 2.5 * LEAST_NOISE)
    return [min(max(each, -most), most) for each in residuals]
