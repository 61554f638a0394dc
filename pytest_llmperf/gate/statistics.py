"""How far is a value from its history, and how sure is that? Pure arithmetic, on the log scale.

Values of one session share whatever was peculiar to it, so that more samples do not make a
session more certain: the session is the unit, and its history tells how sessions differ.
Procedure and constants: docs/gate.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from pytest_llmperf.gate.summary import InvocationSummary, SessionSummary

CENTRE_SESSIONS = 20
"""The centre is frozen after so many sessions: a rolling one would miss a slow creep."""
NOISE_SESSIONS = 20
"""The noise is that of the latest sessions."""
LEAST_NOISE = 0.005
UNKNOWN_NOISE, UNKNOWN_WEIGHT = 0.025, 4
"""What sessions differ by where there are fewer than five other pairs to learn it from."""
POOLED_WEIGHT = 8
LEAST_PAIRS = 5
WINSOR = 2.5 * 1.4826
SEED_UNTIL = 5
"""With so many sessions of its own a pair needs its seed no longer."""
SEEDED_SESSIONS = 3
"""A seed counts as so many sessions, enough to be judged; towards the centre as one."""

LEAST_WEIGHT_SESSIONS = 5
_RIDGE = 4 * 0.01**2
_RIDGE_CENTRE = 0.8
_MOST_WEIGHT = 1.2
_LEAST_CUT = 0.20
MOST_PROBE_CV = 0.01

MOST_LOG = 100.0

RETURNED_SHARE = 2 / 3
"""A loss is like an earlier one that was at least so large a share of it."""
_MANY_SESSIONS = 10
"""From so many sessions on, one loss that came and went is an outlier and no habit."""

PROBE_DROP = 0.04
PROBE_DROP_MADS = 3.5


class Cohort(msgspec.Struct, frozen=True, kw_only=True):
    """What the gated pairs of one fingerprint teach about each of them."""

    noise: float | None = None
    """s₀: standard deviation between sessions of a typical pair; None: too few pairs."""
    pairs: int = 1
    """How many pairs this session gates."""


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """Centre and noise of one pair, both after subtraction of the probe's part."""

    centre: float
    sigma: float
    """Standard deviation of a session."""
    sessions: int
    """How many count as the current normal."""
    error: float
    """Standard error of a new session's distance from the centre."""
    freedom: float
    """Degrees of freedom of ``sigma``."""
    probe_weight: float
    """β: how much of the probe's change the value follows."""
    returned: tuple[float, float]
    """The largest loss and the largest gain, as distances from the centre, that earlier sessions
    of the epoch had more often than an outlier would, and lost again. Both at least 0."""


def t_quantile(share: float, freedom: float) -> float:
    """The t distribution's quantile."""
    from scipy.special import stdtrit  # takes a while, and is needed only when a gate decides

    return float(stdtrit(freedom, share))


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


def probe_weight(history: Sequence[SessionSummary]) -> float:
    """β: which part of the probe's ups and downs the value shares; 0 where it does not help.

    Ridge regression towards 0.8, because few sessions say little and most engines read memory.
    """
    latest = [each for each in history[-NOISE_SESSIONS:] if not each.seeded]
    needed = [*latest, *current(history)[:CENTRE_SESSIONS]]
    if len(latest) < LEAST_WEIGHT_SESSIONS or any(each.log_probe is None for each in needed):
        return 0.0
    if is_blurred(latest):
        return 0.0
    values = _winsorized(_centred(latest, [each.log_value for each in latest]))
    probes = _winsorized(_centred(latest, [each.log_probe or 0.0 for each in latest]))
    both = sum(x * c for x, c in zip(values, probes, strict=True))
    squares = sum(c * c for c in probes)
    weight = (both + _RIDGE_CENTRE * _RIDGE) / (squares + _RIDGE)
    weight = min(max(weight, 0.0), _MOST_WEIGHT)
    before = sum(x * x for x in values)
    after = sum((x - weight * c) ** 2 for x, c in zip(values, probes, strict=True))
    return weight if before > 0 and after <= (1 - _LEAST_CUT) * before else 0.0


def is_blurred(summaries: Sequence[InvocationSummary]) -> bool:
    """Whether their probes' repeats differ too much for a probe to be taken off."""
    spreads = [
        each.probe_cv
        for each in summaries
        if each.probe_cv is not None and math.isfinite(each.probe_cv)
    ]
    return not spreads or statistics.median(spreads) > MOST_PROBE_CV


def _centred(sessions: Sequence[SessionSummary], values: Sequence[float]) -> list[float]:
    """Less the median of each epoch."""
    by_epoch: dict[int, list[float]] = {}
    for session, value in zip(sessions, values, strict=True):
        by_epoch.setdefault(session.epoch, []).append(value)
    middles = {epoch: statistics.median(each) for epoch, each in by_epoch.items()}
    return [v - middles[session.epoch] for session, v in zip(sessions, values, strict=True)]


def adjusted(summary: InvocationSummary, weight: float) -> float:
    """z: the value less the probe's part."""
    return summary.log_value - weight * (summary.log_probe or 0.0)


def adjusted_mean(looks: Sequence[InvocationSummary], weight: float) -> float:
    """Z of several invocations: one probe that was disturbed must not move them all."""
    value = statistics.fmean(look.log_value for look in looks)
    return value - weight * statistics.median(look.log_probe or 0.0 for look in looks)


def estimate(
    history: Sequence[SessionSummary], cohort: Cohort | None = None, *, use_probe: bool = True
) -> Noise:
    """Centre and noise of a pair with at least one session.

    ``use_probe``: whether what is to be judged has a probe too.
    """
    weight = probe_weight(history) if use_probe else 0.0
    now = current(history)
    first = now[:CENTRE_SESSIONS]
    centre = statistics.median(adjusted(each, weight) for each in first)
    latest = grown(history)[-NOISE_SESSIONS:]
    residuals = _residuals(latest, weight)
    prior, prior_weight = _prior(cohort)
    freedom = prior_weight + len(residuals) - len({each.epoch for each in latest})
    squares = sum(each * each for each in _winsorized(residuals))
    sigma = math.sqrt((prior_weight * prior**2 + squares) / freedom)
    sessions = min(counted(history), CENTRE_SESSIONS)
    seeded = [each for each in first if each.seeded]
    if seeded:
        sigma = max(sigma, UNKNOWN_NOISE)
    ways = len(first) - len(seeded) + bool(seeded)
    return Noise(
        centre=centre,
        sigma=sigma,
        sessions=sessions,
        error=sigma * math.sqrt(1 + 1.57 / ways),
        freedom=freedom,
        probe_weight=weight,
        returned=_returned([adjusted(each, weight) - centre for each in now[-NOISE_SESSIONS:]]),
    )


def _returned(distances: Sequence[float]) -> tuple[float, float]:
    """Of a pair that jumps between two speeds, the jump in either direction."""
    allowed = int(len(distances) >= _MANY_SESSIONS)
    return (
        came_and_went([-each for each in distances], allowed),
        came_and_went(distances, allowed),
    )


def came_and_went(heights: Sequence[float], allowed: int = 1) -> float:
    """The largest height that was reached, and left again, more than ``allowed`` times.

    ``heights`` in the order of time. What was reached and stays does not count: that is a change,
    and no habit. 0: there is none.
    """
    for height in sorted((each for each in heights if each > 0), reverse=True):
        reached = [each >= height for each in heights]
        if sum(now and not later for now, later in pairwise(reached)) > allowed:
            return height
    return 0.0


def _prior(cohort: Cohort | None) -> tuple[float, int]:
    if cohort is None or cohort.noise is None:
        return UNKNOWN_NOISE, UNKNOWN_WEIGHT
    return max(cohort.noise, LEAST_NOISE), POOLED_WEIGHT


def _residuals(sessions: Sequence[SessionSummary], weight: float) -> list[float]:
    """Of each session from the median of its epoch."""
    return _centred(sessions, [adjusted(each, weight) for each in sessions])


def _winsorized(residuals: Sequence[float]) -> list[float]:
    """Outliers drawn in to the border, which lies at that of the least noise or further out."""
    most = max(WINSOR * mad(residuals, statistics.median(residuals)), 2.5 * LEAST_NOISE)
    return [min(max(each, -most), most) for each in residuals]


def cohort_of(histories: Sequence[Sequence[SessionSummary]], pairs: int) -> Cohort:
    """What the histories of all gated pairs say about one that is young.

    s₀² is the median of their variances; a sample variance's median lies below its mean by
    (1 − 2/(9ν))³ (Wilson and Hilferty 1931).
    """
    variances = []
    for history in histories:
        latest = history[-NOISE_SESSIONS:]
        freedom = len(latest) - len({each.epoch for each in latest})
        if counted(history) < LEAST_WEIGHT_SESSIONS or any(
            each.seeded or not is_computable(each) for each in latest
        ):
            continue
        residuals = _winsorized(_residuals(latest, probe_weight(history)))
        variance = sum(each * each for each in residuals) / freedom
        variances.append(variance / (1 - 2 / (9 * freedom)) ** 3)
    if len(variances) < LEAST_PAIRS:
        return Cohort(pairs=pairs)
    return Cohort(noise=math.sqrt(statistics.median(variances)), pairs=pairs)


def is_computable(summary: InvocationSummary) -> bool:
    """Whether its numbers are numbers, and none that no machine shows."""
    told = (summary.log_value, summary.log_probe or 0.0)
    return all(abs(each) < MOST_LOG for each in told)


def probe_drop(history: Sequence[SessionSummary], log_probe: float | None) -> str | None:
    """Whether the machine itself is slower than in its history, in words; None: it is not."""
    if log_probe is None:
        return None
    seen = [
        each.log_probe for each in current(history) if each.log_probe is not None and not each.guard
    ]
    if len(seen) < SEEDED_SESSIONS:
        return None
    middle = statistics.median(seen)
    every = [each.log_probe for each in current(history) if each.log_probe is not None]
    least = -math.log1p(-PROBE_DROP)
    habit = came_and_went([middle - each for each in every])
    most = max(least, PROBE_DROP_MADS * mad(seen, middle), habit + least if habit > least else 0)
    if middle - log_probe <= most:
        return None
    return (
        f"the machine is slower: its bandwidth probe is {-math.expm1(log_probe - middle):.0%} "
        f"below its own history ({-math.expm1(-most):.0%} is usual)"
    )
