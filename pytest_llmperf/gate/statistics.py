"""How far is a value from its history, and how sure is that? Pure arithmetic, on the log scale.

Values of one session share whatever was peculiar to it, so that more samples do not make a
session more certain: the session is the unit, and its history tells how sessions differ.
Procedure and constants: docs/gate.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
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
    probe: float
    """Median log of the probe over the sessions that make the centre; 0 without one."""
    probe_doubt: float
    """Variance of β in units of ``sigma``²."""
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


class Slope(msgspec.Struct, frozen=True):
    """How a value follows a probe."""

    weight: float = 0.0
    """0: it does not, or the probe does not help."""
    doubt: float = 0.0
    """Variance of ``weight`` in units of a session's."""


def probe_slope(history: Sequence[SessionSummary]) -> Slope:
    """β: which part of the probe's ups and downs the value shares; 0 where it does not help.

    Ridge regression towards 0.8, because few sessions say little and most engines read memory.
    """
    latest = [each for each in history[-NOISE_SESSIONS:] if not each.seeded]
    needed = [*latest, *current(history)[:CENTRE_SESSIONS]]
    if len(latest) < LEAST_WEIGHT_SESSIONS or any(each.log_probe is None for each in needed):
        return Slope()
    if is_blurred(latest):
        return Slope()
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
    helps = before > 0 and after <= (1 - _LEAST_CUT) * before
    return Slope(weight, 1 / (squares + _RIDGE)) if helps else Slope()


def _drawn_in(values: Sequence[float], probes: Sequence[float]) -> tuple[list[float], list[float]]:
    """Outliers drawn in; one of both by the same share of both, so that its slope stays."""
    drawn: tuple[list[float], list[float]] = ([], [])
    for value, probe, near, close in zip(
        values, probes, winsorized(values), winsorized(probes), strict=True
    ):
        is_both = near != value and close != probe and 0 <= value / probe <= _MOST_WEIGHT
        share = max(near / value, close / probe) if is_both else 1.0
        drawn[0].append(share * value if is_both else near)
        drawn[1].append(share * probe if is_both else close)
    return drawn


def core_slope(history: Sequence[SessionSummary]) -> Slope:
    """The same of the cores' speed, by the sessions that know it."""
    return probe_slope(
        [
            msgspec.structs.replace(each, log_probe=each.log_core, probe_cv=0.0)
            for each in history
            if each.log_core is not None
        ]
    )


class UsualCores(msgspec.Struct, frozen=True):
    """What a pair was and is, had the cores always run as fast as they usually do."""

    history: Sequence[SessionSummary]
    looks: Sequence[InvocationSummary]
    weight: float = 0.0
    """How much of the change of their speed was taken off; 0: it does not help."""
    leverage: float = 0.0
    """What that adds to the variance of the looks' mean, in units of a session's."""


def at_usual_cores(
    history: Sequence[SessionSummary], looks: Sequence[InvocationSummary]
) -> UsualCores:
    """Take off what the cores' speed explains.

    It is known for the very moments between the samples, so that each value has its own part
    taken off; a session that does not know it keeps its value. As they were, where it does not
    help or is not known of all ``looks``.
    """
    is_known = all(look.log_core is not None for look in looks)
    slope = core_slope(history) if is_known else Slope()
    if not slope.weight:
        return UsualCores(history, looks)
    speeds = [each.log_core for each in current(history)[:CENTRE_SESSIONS]]
    known = [each for each in speeds if each is not None]
    if not known:
        return UsualCores(history, looks)
    usual = statistics.median(known)
    rises = [(look.log_core or usual) - usual for look in looks]
    return UsualCores(
        [_at(usual, slope.weight, each) for each in history],
        [_at(usual, slope.weight, each) for each in looks],
        slope.weight,
        slope.doubt * statistics.fmean(rises) ** 2 if rises else 0.0,
    )


def _at(usual: float, weight: float, summary: _Summary) -> _Summary:
    speed = usual if summary.log_core is None else summary.log_core
    return msgspec.structs.replace(summary, log_value=summary.log_value - weight * (speed - usual))


def within_history(
    history: Sequence[SessionSummary], looks: Sequence[InvocationSummary]
) -> list[InvocationSummary]:
    """The looks with probes no higher than sessions have seen them.

    That a value falls with its machine says nothing of how it would rise beyond all that was, and
    what is taken off for a rise that it does not follow would read as a loss.
    """
    seen = [*history[-NOISE_SESSIONS:], *current(history)[:CENTRE_SESSIONS]]
    probes = [each.log_probe for each in seen if each.log_probe is not None]
    cores = [each.log_core for each in seen if each.log_core is not None]
    return [
        msgspec.structs.replace(
            look,
            log_probe=_at_most(look.log_probe, probes),
            log_core=_at_most(look.log_core, cores),
        )
        for look in looks
    ]


def _at_most(value: float | None, seen: Sequence[float]) -> float | None:
    return value if value is None or not seen else min(value, max(seen))


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
    slope = probe_slope(history) if use_probe else Slope()
    weight = slope.weight
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
        probe=statistics.median(each.log_probe or 0.0 for each in first),
        probe_doubt=slope.doubt,
        returned=_returned(
            [
                adjusted(each, weight) - centre
                for each in current(history)[-NOISE_SESSIONS:]
                if not (is_calm and (each.guard or each.unusual))
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


def session_variance(history: Sequence[SessionSummary]) -> float | None:
    """s² of one pair, for others to learn from; None: it knows too little, or is no number.

    A sample variance's median lies below its mean by (1 − 2/(9ν))³ (Wilson and Hilferty 1931),
    which is made up for here.
    """
    if counted(history) < LEAST_COHORT_SESSIONS or any(
        each.seeded or not is_computable(each) for each in history[-NOISE_SESSIONS:]
    ):
        return None
    calm = at_usual_cores(history, ()).history
    weight = probe_slope(calm).weight
    residuals, levels = _residuals(calm, _levels(calm, weight), weight)
    freedom = len(residuals) - levels
    variance = sum(each * each for each in winsorized(residuals)) / freedom
    return variance / (1 - 2 / (9 * freedom)) ** 3


def cohort_of(variances: Iterable[float | None], pairs: int) -> Cohort:
    """What the variances of several pairs say about one that is young: s₀² is their median."""
    known = [each for each in variances if each is not None]
    if len(known) < LEAST_PAIRS:
        return Cohort(pairs=pairs)
    return Cohort(noise=math.sqrt(statistics.median(known)), pairs=pairs)


def is_computable(summary: InvocationSummary) -> bool:
    """Whether its numbers are numbers, and none that no machine shows."""
    told = (summary.log_value, summary.log_probe or 0.0, summary.log_core or 0.0)
    return all(abs(each) < MOST_LOG for each in told)
