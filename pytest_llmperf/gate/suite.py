"""Did everything get a little worse at once? One verdict over all pairs of a session.

A loss of 3 % that all tests share is below what a single one can show, and plain in their median.
The median is never taken off a test's own distance: it would hide what it finds.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from pytest_llmperf.gate.past import (
    CENTRE_SESSIONS,
    NOISE_SESSIONS,
    RETURNED_SHARE,
    adjusted,
    came_and_went,
    current,
    last_level,
    winsorized,
)
from pytest_llmperf.gate.probe import MachineSpeed
from pytest_llmperf.gate.slope import at_usual_cores, is_blurred, within_history
from pytest_llmperf.gate.statistics import estimate, is_computable, t_quantile
from pytest_llmperf.gate.summary import InvocationSummary, SessionSummary
from pytest_llmperf.gate.verdict import Verdict

LEAST_PAIRS = 10
LEAST_SESSIONS = 5
LEAST_SHIFT = 0.01
LEAST_UNUSUAL = 3
"""So many sessions on such a machine have to be among the earlier ones to compare with."""
MOST_CHANGED = 0.25
"""Share of the pairs that may show another machine: beyond it the others are not to be trusted."""
_ALPHA = 0.002
_PRIOR, _PRIOR_WEIGHT = 0.01, 4

Dated = tuple[str, SessionSummary]
"""A session's id, the same for all pairs, and what it was for one."""


class SuiteShift(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all pairs together. Changes are shares: −0.03 is 3 % worse."""

    verdict: Verdict
    """PASSED, REGRESSED, INCONCLUSIVE where the machine changed, or NO_BASELINE."""
    effect: float | None = None
    """Median change of the pairs."""
    needed: float | None = None
    """What a change has to exceed to be sure."""
    pairs: int = 0
    sessions: int = 0
    reason: str = ""
    fingerprint: str = ""
    """Of the machine, where several were measured on."""


def suite_shift(pairs: Sequence[tuple[Sequence[Dated], InvocationSummary]]) -> SuiteShift:
    """Judge the median distance of this session's ``pairs`` by that of earlier sessions.

    Each pair with its history, oldest first, and its first invocation of this session: a second
    look is only given to those that looked bad.
    """
    gated = [
        (history, now)
        for history, now in pairs
        if sum(not each.seeded for _, each in history) >= LEAST_SESSIONS
        and all(is_computable(each) for _, each in history)
    ]
    if len(gated) < LEAST_PAIRS:
        reason = f"{len(gated)} pairs with {LEAST_SESSIONS} sessions, and {LEAST_PAIRS} are needed"
        return SuiteShift(verdict=Verdict.NO_BASELINE, pairs=len(gated), reason=reason)
    if not all(is_computable(now) for _, now in gated):
        reason = "a value is not a number"
        return SuiteShift(verdict=Verdict.INCONCLUSIVE, pairs=len(gated), reason=reason)
    clear = [(history, now) for history, now in gated if not _changed(history, now)]
    changed = len(gated) - len(clear)
    if changed > MOST_CHANGED * len(gated) or len(clear) < LEAST_PAIRS:
        reason = f"the machine changed for {changed} of {len(gated)} pairs"
        return SuiteShift(verdict=Verdict.INCONCLUSIVE, pairs=len(gated), reason=reason)
    gated = clear
    distances = []
    earlier: defaultdict[str, list[float]] = defaultdict(list)
    latest: set[str] = set()
    for history, now in sorted(gated, key=lambda pair: -len(pair[0])):
        past = [session for _, session in history]
        cores = at_usual_cores(past, within_history(past, [now]))
        sessions, (look,) = cores.history, cores.looks
        noise = estimate(sessions, use_probe=not is_blurred([look]))
        distances.append(adjusted(look, noise.probe_weight) - noise.centre)
        latest.update(name for name, _ in history[-NOISE_SESSIONS:])
        for (name, _), session in zip(history, sessions, strict=True):
            is_current = session.epoch == sessions[-1].epoch
            if is_current and not (session.seeded or session.guard):
                earlier[name].append(adjusted(session, noise.probe_weight) - noise.centre)
    medians = {
        name: statistics.median(each)
        for name, each in earlier.items()
        if len(each) >= LEAST_PAIRS  # it measured enough of the suite
    }
    if len(medians) < LEAST_SESSIONS:
        reason = f"{len(medians)} earlier sessions of the suite, and {LEAST_SESSIONS} are needed"
        return SuiteShift(verdict=Verdict.NO_BASELINE, pairs=len(gated), reason=reason)
    recent = sum(name in latest for name in medians)
    return _judged(list(medians.values()), recent, statistics.median(distances), len(gated))


def _changed(history: Sequence[Dated], now: InvocationSummary) -> bool:
    """Whether it is the machine that this pair shows: until it did the same some times before."""
    sessions = [session for _, session in history]
    look = MachineSpeed(sessions).marked(now)
    before = sum(each.unusual and not each.guard for each in current(sessions)[-NOISE_SESSIONS:])
    return bool(look.guard) or (look.unusual and before < LEAST_UNUSUAL)


def _judged(past: Sequence[float], recent: int, now: float, pairs: int) -> SuiteShift:
    """``past``: oldest first, of which the last ``recent`` tell the noise."""
    stays = last_level(past, -math.log1p(-LEAST_SHIFT))
    before, level = past[: len(past) - stays], past[len(past) - stays :]
    centre = statistics.median(before[:CENTRE_SESSIONS])
    distances = [each - centre for each in past]
    residuals = [each - centre for each in before]
    residuals += [each - statistics.median(level) for each in level]
    residuals = winsorized(residuals[-recent:])
    freedom = _PRIOR_WEIGHT + len(residuals) - 1 - bool(level)
    squares = sum(each**2 for each in residuals)
    sigma = math.sqrt((_PRIOR_WEIGHT * _PRIOR**2 + squares) / freedom)
    error = sigma * math.sqrt(1 + 1.57 / len(before[:CENTRE_SESSIONS]))
    usual = came_and_went([-each for each in distances[-recent:]]) / RETURNED_SHARE
    needed = max(-math.log1p(-LEAST_SHIFT), t_quantile(1 - _ALPHA, freedom) * error, usual)
    shift = now - centre
    return SuiteShift(
        verdict=Verdict.REGRESSED if shift < -needed else Verdict.PASSED,
        effect=math.expm1(shift),
        needed=math.expm1(-needed),
        pairs=pairs,
        sessions=len(past),
    )
