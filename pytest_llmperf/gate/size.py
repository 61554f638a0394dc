"""Did it get bigger? Memory is counted, not timed: a tolerance and one confirmation are enough."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

from pytest_llmperf.gate.past import CENTRE_SESSIONS, counted, current
from pytest_llmperf.gate.statistics import is_computable
from pytest_llmperf.gate.summary import InvocationSummary, SessionSummary
from pytest_llmperf.gate.verdict import LEAST_SESSIONS, TOLERANCE, Cause, Judgement, Verdict


def judge_size(
    history: Sequence[SessionSummary],
    first: InvocationSummary,
    second_look: Sequence[InvocationSummary] = (),
    *,
    tolerance: float = TOLERANCE,
) -> Judgement:
    """Judge one pair of a size metric; REGRESSED if the fresh worker of a second look agrees.

    No interval and no smallest loss that would be seen: there is no noise that a test of
    significance could know of. Guard findings do not count: a slower machine holds as many bytes.
    """
    sessions = counted(history)
    wrong = None
    if not 0 < tolerance < 1:
        wrong = f"a tolerance lies between 0 and 1, not at {tolerance}"
    elif not all(is_computable(each) for each in (*history, first, *second_look)):
        wrong = "a size is not a number"
    if wrong:
        return _unable(Cause.UNCOMPUTABLE, wrong, sessions)
    if sessions < LEAST_SESSIONS:
        reason = f"{sessions} of {LEAST_SESSIONS} sessions of history"
        young = _unable(Cause.YOUNG, reason, sessions)
        return msgspec.structs.replace(young, verdict=Verdict.NO_BASELINE)
    centre = statistics.median(each.log_value for each in current(history)[:CENTRE_SESSIONS])
    distance = max(look.log_value for look in (first, *second_look)) - centre
    border = math.log1p(-tolerance)
    judgement = Judgement(verdict=Verdict.PASSED, effect=math.expm1(distance), sessions=sessions)
    if distance < border and second_look:
        return msgspec.structs.replace(judgement, verdict=Verdict.REGRESSED)
    if distance < border:
        return msgspec.structs.replace(
            judgement,
            verdict=Verdict.INCONCLUSIVE,
            wants_second_look=True,
            cause=Cause.SUSPECT,
            reasons=("suspect, and not looked at a second time",),
        )
    if distance > -border:
        return msgspec.structs.replace(judgement, verdict=Verdict.IMPROVED)
    return judgement


def _unable(cause: Cause, reason: str, sessions: int) -> Judgement:
    return Judgement(
        verdict=Verdict.INCONCLUSIVE, sessions=sessions, cause=cause, reasons=(reason,)
    )
