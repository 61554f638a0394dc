"""How far is a value from its history, and how sure is that? Pure arithmetic, on the log scale.

Values of one session share whatever was peculiar to it, so that more samples do not make a
session more certain: the session is the unit, and its history tells how sessions differ.
Procedure and constants: docs/gate.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from pytest_llmperf.gate.summary import MOST_LOG, InvocationSummary, SessionSummary

CENTRE_SESSIONS = 20
"""The centre is frozen after so many sessions: a rolling one would miss a slow creep."""
NOISE_SESSIONS = 20
"""The noise is that of the latest sessions."""
LEAST_NOISE = 0.005
UNKNOWN_NOISE, UNKNOWN_WEIGHT = 0.025, 4
"""What sessions differ by where there are fewer than five other pairs to learn it from."""
POOLED_WEIGHT = 8
LEAST_PAIRS, LEAST_COHORT_SESSIONS = 5, 3
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
_MANY_SESSIONS = 10
"""From so many sessions on, one loss that came and went is an outlier and no habit."""


_Summary = TypeVar("_Summary", bound=InvocationSummary)


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
    labels = _levels([each for each in history if not each.seeded], 0.0)[-len(latest) :]
    values = _centred(labels, [each.log_value for each in latest])
    probes = _centred(labels, [each.log_probe or 0.0 for each in latest])
    values, probes = _drawn_in(values, probes)
    both = sum(x * c for x, c in zip(values, probes, strict=True))
    squares = sum(c * c for c in probes)
    weight = (both + _RIDGE_CENTRE * _RIDGE) / (squares + _RIDGE)
    weight = min(max(weight, 0.0), _MOST_WEIGHT)
    before = sum(x * x for x in values)
    after = sum((x - weight * c) ** 2 for x, c in zip(values, probes, strict=True))
    return weight if before > 0 and after <= (1 - _LEAST_CUT) * before else 0.0


def _drawn_in(values: Sequence[float], probes: Sequence[float]) -> tuple[list[float], list[float]]:
    """Outliers drawn in; one of both by the same share of both, so that its slope stays."""
    drawn: tuple[list[float], list[float]] = ([], [])
    for value, probe, near, close in zip(
        values, probes, winsorized(values), winsorized(probes), strict=True
    ):
        is_both = near != value and close != probe
        share = max(near / value, close / probe) if is_both else 1.0
        drawn[0].append(share * value if is_both else near)
        drawn[1].append(share * probe if is_both else close)
    return drawn


def core_weight(history: Sequence[SessionSummary]) -> float:
    """Which part of the ups and downs of the cores' speed the value shares; 0: it does not help."""
    if not history or history[-1].log_core is None:
        return 0.0
    return probe_weight(
        [msgspec.structs.replace(each, log_probe=each.log_core, probe_cv=0.0) for each in history]
    )


def at_usual_cores(
    history: Sequence[SessionSummary], looks: Sequence[InvocationSummary]
) -> tuple[list[SessionSummary], list[InvocationSummary], float]:
    """All values as they would be had the cores run as fast as usual, and the weight for it.

    A core's speed is known for the very moments between the samples, so that each value has its
    own part taken off. As they were, with weight 0, where it does not help or is not known.
    """
    weight = core_weight(history) if all(look.log_core is not None for look in looks) else 0.0
    if not weight:
        return list(history), list(looks), 0.0
    speeds = [each.log_core for each in current(history)[:CENTRE_SESSIONS]]
    usual = statistics.median(each for each in speeds if each is not None)
    return (
        [_at(usual, weight, each) for each in history],
        [_at(usual, weight, each) for each in looks],
        weight,
    )


def _at(usual: float, weight: float, summary: _Summary) -> _Summary:
    rise = usual if summary.log_core is None else summary.log_core
    return msgspec.structs.replace(summary, log_value=summary.log_value - weight * (rise - usual))


def is_blurred(summaries: Sequence[InvocationSummary]) -> bool:
    """Whether their probes' repeats differ too much for a probe to be taken off."""
    spreads = [
        each.probe_cv
        for each in summaries
        if each.probe_cv is not None and math.isfinite(each.probe_cv)
    ]
    return not spreads or statistics.median(spreads) > MOST_PROBE_CV


def _centred(labels: Sequence[int], values: Sequence[float]) -> list[float]:
    """Less the median of those that have the same label."""
    alike: dict[int, list[float]] = {}
    for label, value in zip(labels, values, strict=True):
        alike.setdefault(label, []).append(value)
    middles = {label: statistics.median(each) for label, each in alike.items()}
    return [value - middles[label] for label, value in zip(labels, values, strict=True)]


def _levels(history: Sequence[SessionSummary], weight: float) -> list[int]:
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


def adjusted_mean(looks: Sequence[InvocationSummary], weight: float) -> float:
    """Z of several invocations: one probe that was disturbed must not move them all."""
    value = statistics.fmean(look.log_value for look in looks)
    return value - weight * statistics.median(look.log_probe or 0.0 for look in looks)


def estimate(
    history: Sequence[SessionSummary],
    cohort: Cohort | None = None,
    *,
    use_probe: bool = True,
    is_calm: bool = True,
) -> Noise:
    """Centre and noise of a pair with at least one session.

    ``use_probe``: whether what is to be judged has a probe too. ``is_calm``: whether its machine
    is as on most days, so that what the others did to a value is no excuse for it.
    """
    weight = probe_weight(history) if use_probe else 0.0
    sessions = grown(history)
    labels = _levels(sessions, weight)
    epoch = sessions[-1].epoch
    first = [each for each, label in zip(sessions, labels, strict=True) if label == epoch]
    first = first[:CENTRE_SESSIONS]
    centre = statistics.median(adjusted(each, weight) for each in first)
    residuals, levels = _residuals(sessions, labels, weight)
    prior, prior_weight = _prior(cohort)
    freedom = prior_weight + len(residuals) - levels
    squares = sum(each * each for each in winsorized(residuals))
    sigma = math.sqrt((prior_weight * prior**2 + squares) / freedom)
    seeded = [each for each in first if each.seeded]
    if seeded:
        sigma = max(sigma, UNKNOWN_NOISE)
    ways = len(first) - len(seeded) + bool(seeded)
    return Noise(
        centre=centre,
        sigma=sigma,
        sessions=min(counted(history), CENTRE_SESSIONS),
        error=sigma * math.sqrt(1 + 1.57 / ways),
        freedom=freedom,
        probe_weight=weight,
        returned=_returned(
            [
                adjusted(each, weight) - centre
                for each in current(history)[-NOISE_SESSIONS:]
                if not (is_calm and each.guard)
            ]
        ),
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
        ended, is_up = 0, False
        for each in heights:
            ended += is_up and each <= _BACK * height
            is_up = each >= height or (is_up and each > _BACK * height)
        if ended > allowed:
            return height
    return 0.0


def _prior(cohort: Cohort | None) -> tuple[float, int]:
    if cohort is None or cohort.noise is None:
        return UNKNOWN_NOISE, UNKNOWN_WEIGHT
    return max(cohort.noise, LEAST_NOISE), POOLED_WEIGHT


def _residuals(
    sessions: Sequence[SessionSummary], labels: Sequence[int], weight: float
) -> tuple[list[float], int]:
    """Of the latest sessions from the median of their level, and how many levels there are."""
    latest = labels[-NOISE_SESSIONS:]
    values = [adjusted(each, weight) for each in sessions[-NOISE_SESSIONS:]]
    return _centred(latest, values), len(set(latest))


def winsorized(residuals: Sequence[float]) -> list[float]:
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
        if counted(history) < LEAST_COHORT_SESSIONS or any(
            each.seeded or not is_computable(each) for each in history[-NOISE_SESSIONS:]
        ):
            continue
        calm, _, _ = at_usual_cores(history, ())
        weight = probe_weight(calm)
        residuals, levels = _residuals(calm, _levels(calm, weight), weight)
        freedom = len(residuals) - levels
        variance = sum(each * each for each in winsorized(residuals)) / freedom
        variances.append(variance / (1 - 2 / (9 * freedom)) ** 3)
    if len(variances) < LEAST_PAIRS:
        return Cohort(pairs=pairs)
    return Cohort(noise=math.sqrt(statistics.median(variances)), pairs=pairs)


def is_computable(summary: InvocationSummary) -> bool:
    """Whether its numbers are numbers, and none that no machine shows."""
    told = (summary.log_value, summary.log_probe or 0.0, summary.log_core or 0.0)
    return all(abs(each) < MOST_LOG for each in told)
