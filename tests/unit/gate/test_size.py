"""Is memory that grew red once a fresh worker agrees, and nothing else?"""

from __future__ import annotations

import math

import pytest

from pytest_llmperf.gate import InvocationSummary, SessionSummary, Verdict
from pytest_llmperf.gate.size import judge_size
from pytest_llmperf.gate.verdict import Cause


def look(gib: float, *, guard: tuple[str, ...] = ()) -> InvocationSummary:
    return InvocationSummary(log_value=-math.log(gib), spread=0.0, n=1, guard=guard)


def past(*gibs: float, epoch: int = 0) -> list[SessionSummary]:
    return [SessionSummary(log_value=-math.log(gib), spread=0.0, n=1, epoch=epoch) for gib in gibs]


HISTORY = past(1.0, 1.01, 0.99, 1.0)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (1.0, None, Verdict.PASSED),
        (1.02, None, Verdict.PASSED),
        (1.1, None, Verdict.INCONCLUSIVE),
        (1.1, 1.1, Verdict.REGRESSED),
        (1.1, 1.0, Verdict.PASSED),
        (0.8, None, Verdict.IMPROVED),
    ],
)
def test_verdicts(first: float, second: float | None, verdict: Verdict) -> None:
    fresh = [] if second is None else [look(second)]
    judgement = judge_size(HISTORY, look(first), fresh)
    assert judgement.verdict is verdict
    assert judgement.wants_second_look is (verdict is Verdict.INCONCLUSIVE)


def test_the_change_is_that_of_the_smaller_look() -> None:
    judgement = judge_size(HISTORY, look(1.25), [look(1.10)])
    assert judgement.effect == pytest.approx(1 / 1.10 - 1)
    assert (judgement.low, judgement.high, judgement.mde) == (None, None, None)


def test_the_tolerance_is_the_tests_own() -> None:
    assert judge_size(HISTORY, look(1.1), [look(1.1)], tolerance=0.2).verdict is Verdict.PASSED


@pytest.mark.parametrize("sessions", [0, 2])
def test_a_young_history_is_no_baseline(sessions: int) -> None:
    judgement = judge_size(HISTORY[:sessions], look(9))
    assert (judgement.verdict, judgement.cause) == (Verdict.NO_BASELINE, Cause.YOUNG)


def test_a_new_epoch_is_the_new_normal() -> None:
    history = [*HISTORY, *past(2.0, 2.0, 2.0, epoch=1)]
    assert judge_size(history, look(2.0)).verdict is Verdict.PASSED


def test_a_slower_machine_holds_as_many_bytes() -> None:
    grown = look(1.1, guard=("throttled",))
    assert judge_size(HISTORY, grown, [grown]).verdict is Verdict.REGRESSED


def test_what_is_no_number_is_undecided() -> None:
    broken = InvocationSummary(log_value=math.nan, spread=0.0, n=1)
    judgement = judge_size(HISTORY, broken)
    assert (judgement.verdict, judgement.cause) == (Verdict.INCONCLUSIVE, Cause.UNCOMPUTABLE)
