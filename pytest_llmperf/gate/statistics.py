"""How far is a value from its history, and how sure is that? Pure arithmetic, on the log scale.

Values of one session share whatever was peculiar to it, so that more samples do not make a
session more certain: the session is the unit, and its history tells how sessions differ.
Procedure and constants: docs/gate.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import msgspec

from pytest_llmperf.gate.past import (
    CENTRE_SESSIONS,
    LEAST_NOISE,
    NOISE_SESSIONS,
    adjusted,
    came_and_went,
    centred,
    counted,
    current,
    grown,
    levels_of,
    winsorized,
)
from pytest_llmperf.gate.slope import Slope, at_usual_cores, probe_slope
from pytest_llmperf.gate.summary import MOST_LOG, InvocationSummary, SessionSummary

UNKNOWN_NOISE, UNKNOWN_WEIGHT = 0.025, 4
"""What sessions differ by where there are fewer than five other pairs to learn it from."""
SEED_NOISE = 0.05
"""At least, while a seed stands for sessions, of which it knows nothing (docs/benchmarks.md)."""
POOLED_WEIGHT = 8
LEAST_PAIRS, LEAST_COHORT_SESSIONS = 5, 3
_MANY_SESSIONS = 10
"""From so many sessions on, one loss that came and went is an outlier and no habit."""


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
    labels = levels_of(sessions, weight)
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
        sigma = max(sigma, SEED_NOISE)
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
    return centred(latest, values), len(set(latest))


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
    residuals, levels = _residuals(calm, levels_of(calm, weight), weight)
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
