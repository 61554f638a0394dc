"""Are values taken to what they would be with cores as fast as usual, where that explains them?"""

from __future__ import annotations

import random

import msgspec
import pytest

from pytest_llmperf.gate import SessionSummary, Verdict, judge
from pytest_llmperf.gate.slope import UsualCores, at_usual_cores, core_slope
from pytest_llmperf.gate.statistics import estimate
from tests.unit.gate.histories import QUIET, history, invocation, session

USUAL = 14.0
SHARED = -0.45
"""About −36 %: what a core has left beside a neighbour."""


def shared(sessions: int, coupling: float, seed: int = 1) -> list[SessionSummary]:
    """A neighbour is there for some part of each session."""
    draw = random.Random(seed)
    past = []
    for _ in range(sessions):
        fall = SHARED * draw.random()
        past.append(session(coupling * fall + draw.gauss(0, 0.003), log_core=USUAL + fall))
    return past


def test_what_the_cores_explain_is_no_noise() -> None:
    past = shared(20, 0.7)
    assert core_slope(past).weight == pytest.approx(0.7, abs=0.02)
    calm = at_usual_cores(past, ()).history
    assert estimate(past).sigma > 4 * estimate(calm, QUIET).sigma


def test_a_neighbour_who_was_there_twice_has_the_weight_that_he_had() -> None:
    """Winsorized apart, both outliers would be drawn in to the same border: a slope of 1."""
    past = history([0.0, 0.001] * 10, log_core=USUAL)
    for at in (4, 9):
        past[at] = session(0.4 * SHARED, log_core=USUAL + SHARED)
    assert core_slope(past).weight == pytest.approx(0.4, abs=0.1)


def test_what_they_do_not_explain_stays_as_it_was() -> None:
    past = [
        msgspec.structs.replace(each, log_value=other.log_value)
        for each, other in zip(shared(20, 0.7), shared(20, 0.7, seed=2), strict=True)
    ]
    look = invocation(0.0, log_core=USUAL)
    assert at_usual_cores(past, [look]) == UsualCores(past, [look])


@pytest.mark.parametrize(
    "past", [shared(4, 0.7), history([0.0] * 20), []], ids=["young", "not tried", "none"]
)
def test_too_little_is_known_of_the_cores(past: list[SessionSummary]) -> None:
    assert core_slope(past).weight == 0.0


def test_a_look_without_cores_is_compared_as_it_is() -> None:
    past = shared(20, 0.7)
    looks = [invocation(0.0, log_core=USUAL), invocation(0.0)]
    assert at_usual_cores(past, looks) == UsualCores(past, looks)


def test_each_look_has_its_own_part_taken_off() -> None:
    past = shared(20, 0.7)
    speeds = (0.0, SHARED / 2, SHARED)
    looks = [invocation(0.7 * each, log_core=USUAL + each) for each in speeds]
    told = at_usual_cores(past, looks)
    assert told.weight > 0
    values = [each.log_value for each in told.looks]
    assert max(values) - min(values) < 0.01


def test_a_loss_beside_a_neighbour_is_found_and_a_neighbour_alone_is_none() -> None:
    past = shared(20, 0.7)
    neighbour = invocation(0.7 * SHARED, log_core=USUAL + SHARED)
    judged = judge(past, neighbour, [neighbour] * 5, cohort=QUIET)
    assert judged.verdict is Verdict.PASSED
    assert judged.core_weight == pytest.approx(0.7, abs=0.02)
    lost = invocation(0.7 * SHARED - 0.08, log_core=USUAL + SHARED)
    judged = judge(past, lost, [lost] * 5, cohort=QUIET)
    assert judged.verdict is Verdict.REGRESSED
    assert judged.effect == pytest.approx(-0.077, abs=0.01)
