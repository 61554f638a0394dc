"""What do earlier sessions excuse, and what do fresh processes that contradict each other?"""

from __future__ import annotations

import math
import random

import pytest

from pytest_llmperf.gate import Cohort, Verdict, judge
from pytest_llmperf.gate.verdict import Cause
from tests.unit.gate.histories import (
    CENTRE,
    QUIET,
    changed,
    history,
    invocation,
    jumping,
    level,
    looked_twice,
    lower,
    session,
)

# Losses that came and went


@pytest.mark.parametrize(
    ("at", "verdict"),
    [
        ((), Verdict.REGRESSED),
        ((4,), Verdict.REGRESSED),
        ((4, 5, 6), Verdict.REGRESSED),
        ((4, 18, 19), Verdict.REGRESSED),
        ((16, 17, 18, 19), Verdict.REGRESSED),
        ((4, 9), Verdict.INCONCLUSIVE),
        ((4, 9, 18, 19), Verdict.INCONCLUSIVE),
    ],
)
def test_what_came_and_went_twice_is_no_regression(at: tuple[int, ...], verdict: Verdict) -> None:
    """One episode is an outlier, or a loss that was mended; one that stays is still the same."""
    judged = looked_twice(jumping(20, 0.2, *at), -0.2, cohort=QUIET)
    assert judged.verdict is verdict
    if verdict is Verdict.INCONCLUSIVE:
        assert judged.cause is Cause.RETURNING
        (reason,) = judged.reasons
        assert reason.startswith("18.1% worse, and losses of 18.1% and more came and went by")


@pytest.mark.parametrize(("sessions", "verdict"), [(9, "INCONCLUSIVE"), (10, "REGRESSED")])
def test_once_is_enough_while_the_history_is_young(sessions: int, verdict: str) -> None:
    assert looked_twice(jumping(sessions, 0.2, 3), -0.25, cohort=QUIET).verdict == verdict


@pytest.mark.parametrize(("loss", "verdict"), [(0.299, "INCONCLUSIVE"), (0.301, "REGRESSED")])
def test_a_loss_half_as_large_again_is_another_one(loss: float, verdict: str) -> None:
    assert looked_twice(jumping(20, 0.2, 4, 9), -loss, cohort=QUIET).verdict == verdict


def test_the_mde_knows_of_what_comes_and_goes() -> None:
    steady = judge(jumping(20, 0.2, 4), invocation(), cohort=QUIET)
    jumps = judge(jumping(20, 0.2, 4, 9), invocation(), cohort=QUIET)
    assert steady.mde is not None
    assert jumps.mde is not None
    assert steady.mde < 0.2
    assert jumps.mde > -math.expm1(-0.3)


def test_a_gain_that_came_and_went_twice_is_none() -> None:
    once, twice = jumping(20, -0.2, 4), jumping(20, -0.2, 4, 9)
    assert judge(once, invocation(0.2), cohort=QUIET).verdict is Verdict.IMPROVED
    assert judge(twice, invocation(0.2), cohort=QUIET).verdict is Verdict.PASSED


def test_a_new_epoch_forgets_what_came_and_went() -> None:
    old = jumping(10, 0.2, 2, 4, 6)
    new = level(10, epoch=1)
    assert looked_twice([*old, *new], -0.5, cohort=QUIET).verdict is Verdict.REGRESSED


@pytest.mark.parametrize("recorded", [1, 4, 8, 15, 24, 40])
@pytest.mark.parametrize(("loss", "noise"), [(0.05, 0.005), (0.10, 0.01), (0.20, 0.005)])
def test_a_loss_that_stays_is_red_however_often_it_is_recorded(
    loss: float, noise: float, recorded: int
) -> None:
    """Noise alone makes nothing come and go, and what was recorded is no noise."""
    draw = random.Random(recorded)
    past = [draw.gauss(0.0, noise) for _ in range(20 + recorded)]
    past[20:] = [each + lower(loss) for each in past[20:]]
    judged = looked_twice(history(past), lower(loss), cohort=Cohort(noise=noise, pairs=12))
    assert judged.verdict is Verdict.REGRESSED
    assert judged.effect == pytest.approx(-loss, abs=2 * noise)


def test_a_gain_that_stays_remains_a_gain() -> None:
    draw = random.Random(3)
    past = history([draw.gauss(0.0 if each < 20 else 0.1, 0.005) for each in range(30)])
    assert judge(past, invocation(0.1), cohort=QUIET).verdict is Verdict.IMPROVED


def test_what_a_disturbed_machine_lost_excuses_nothing_later() -> None:
    disturbed = {"log_value": CENTRE - 0.2, "guard": ("other processes used the cores",)}
    past = changed(changed(level(20), 4, **disturbed), 9, **disturbed)
    assert looked_twice(past, -0.2, cohort=QUIET).verdict is Verdict.REGRESSED


@pytest.mark.parametrize("slow", [1, 5, 15, 60])
def test_a_machine_that_stays_slow_is_never_green(slow: int) -> None:
    """Its sessions are recorded with what was found, and never become what is usual."""
    draw = random.Random(slow)
    past = history([0.0] * 20, [draw.gauss(0.0, 0.003) for _ in range(20)])
    for _ in range(slow):
        judged = judge(past, invocation(-0.6, draw.gauss(-0.7, 0.003)), cohort=QUIET)
        assert judged.cause is Cause.MACHINE_CHANGED
        past.append(session(-0.6, -0.7, guard=judged.reasons))


def test_a_new_normal_is_not_judged_on_another_machine() -> None:
    """After an acceptance of a build, the machine's own history still counts."""
    past = [*history([0.0] * 20, [0.0] * 20), *history([0.1] * 2, [0.0] * 2, epoch=1)]
    judged = judge(past, invocation(-0.6, -0.7), cohort=QUIET)
    assert (judged.verdict, judged.cause) == (Verdict.INCONCLUSIVE, Cause.MACHINE_CHANGED)
    usual = judge(past, invocation(0.1, 0.0), cohort=QUIET)
    assert usual.verdict is Verdict.NO_BASELINE


# Looks that contradict each other


@pytest.mark.parametrize(
    ("fast", "verdict"), [(-0.026, Verdict.REGRESSED), (-0.024, Verdict.INCONCLUSIVE)]
)
def test_one_fresh_process_that_lost_little_exculpates(fast: float, verdict: Verdict) -> None:
    """A neighbour slows some processes down; a build slows down all. Of five that lost 8.5 % (of
    logs) and one that lost 2.5 %, the mean is 7.5 %, and a third of it 2.5 %.
    """
    slow, well = invocation(-0.085), invocation(fast)
    judged = judge(level(20), slow, [slow] * 4 + [well], cohort=Cohort(noise=0.02))
    assert judged.verdict is verdict
    if verdict is Verdict.INCONCLUSIVE:
        assert judged.cause is Cause.CONTRADICTED
        assert judged.reasons[0].endswith(
            "in the mean, but 1 of 5 fresh processes lost less than a third of that: something "
            "passed by"
        )


def test_a_fresh_process_that_cannot_be_heard_exculpates_nobody() -> None:
    slow = invocation(-0.2)
    for deaf in (invocation(0.0, n=4), invocation(0.0, guard=("throttled",))):
        judged = judge(level(20), slow, [slow] * 4 + [deaf], cohort=QUIET)
        assert judged.verdict is Verdict.REGRESSED
