"""How does a value follow the machine's speed, and how sure is that?

The memory's bandwidth by a probe before and after the samples, and the cores' speed between them.
Pure arithmetic, on the log scale. Procedure and constants: docs/gate.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from pytest_llmperf.gate.past import (
    CENTRE_SESSIONS,
    LEAST_WEIGHT_SESSIONS,
    NOISE_SESSIONS,
    centred,
    current,
    levels_of,
    winsorized,
)
from pytest_llmperf.gate.summary import InvocationSummary, SessionSummary

_RIDGE = 4 * 0.01**2
_RIDGE_CENTRE = 0.8
_MOST_WEIGHT = 1.2
_LEAST_CUT = 0.20
MOST_PROBE_CV = 0.01
_Summary = TypeVar("_Summary", bound=InvocationSummary)


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
    labels = levels_of([each for each in history if not each.seeded], 0.0)[-len(latest) :]
    values = centred(labels, [each.log_value for each in latest])
    probes = centred(labels, [each.log_probe or 0.0 for each in latest])
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
