"""Is a machine that changed told from one that comes and goes, by its own probes alone?"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from pytest_llmperf.gate import SessionSummary, Verdict, judge
from pytest_llmperf.gate.probe import MachineSpeed
from pytest_llmperf.gate.verdict import Cause
from tests.unit.gate.histories import (
    QUIET,
    history,
    invocation,
    level,
    looked_twice,
    lower,
    session,
)

FOUND = ("other processes used the cores",)


def change(past: list[SessionSummary], probe: float | None, **facts: Any) -> str | None:
    found = MachineSpeed(past).marked(invocation(0.0, probe, **facts)).guard
    return found[0] if found else None


@pytest.mark.parametrize(("drop", "told"), [(0.039, False), (0.041, True), (0.5, True)])
def test_a_machine_is_slower_beyond_four_percent(drop: float, told: bool) -> None:
    found = change(history([0.0] * 10, [0.0] * 10), lower(drop))
    assert bool(found) is told
    assert not told or "slower" in str(found)


@pytest.mark.parametrize(("gain", "told"), [(0.19, False), (0.21, True)])
def test_a_machine_is_another_beyond_a_fifth_more(gain: float, told: bool) -> None:
    found = change(history([0.0] * 10, [0.0] * 10), math.log1p(gain))
    assert found == (
        "the machine is faster: its bandwidth probe is 21% above its own history (20% is usual)"
        if told
        else None
    )


def test_a_machine_is_slower_beyond_what_its_probe_usually_does() -> None:
    """Probes of ±2 %, so that 3.5 · 0.02 = 0.07 is usual: −6.8 %."""
    past = history([0.0] * 10, [0.02, -0.02] * 5)
    assert change(past, -0.069) is None
    assert change(past, -0.071) == (
        "the machine is slower: its bandwidth probe is 7% below its own history (7% is usual)"
    )


def test_a_disturbed_session_is_no_measure_of_the_machine() -> None:
    slow = history([0.0] * 4, [-0.5] * 4, guard=FOUND)
    assert change([*slow, *history([0.0] * 3, [0.0] * 3)], -0.6) is not None
    assert change([*slow, *history([0.0] * 2, [0.0] * 2)], -0.6) is None, "too few"


def test_nothing_is_known_of_a_machine_that_was_not_probed() -> None:
    assert change(level(20), -0.5) is None
    assert change(history([0.0] * 20, [0.0] * 20), None) is None
    assert change([], -0.5) is None


def test_another_machine_is_known_by_its_own_sessions() -> None:
    fast, slow = history([0.0] * 20, [0.0] * 20), [[0.0] * 3, [-0.5] * 3]
    accepted = [*fast, *history(*slow, epoch=1, machine=1)]
    assert change(accepted, -0.5) is None, "the slower machine was accepted"
    build = [*fast, *history(*slow, epoch=1)]
    assert change(build, -0.5) is not None, "another build was, on the same machine"


def flipping(sessions: int, fall: float, loss: float, *at: int) -> list[SessionSummary]:
    """A machine that falls by so much at some sessions, and what a value loses then."""
    return [
        session(-loss, -fall, guard=FOUND) if each in at else session(0.0, 0.0)
        for each in range(sessions)
    ]


@pytest.mark.parametrize(
    ("at", "told"),
    [((4,), True), ((18, 19), True), ((4, 5, 19), True), ((4, 9), False), ((4, 9, 19), False)],
)
def test_what_a_machine_does_again_and_again_is_its_habit(at: tuple[int, ...], told: bool) -> None:
    """Twice it came and went; what came once, or stays, is a change."""
    assert bool(change(flipping(20, 0.5, 0.0, *at), -0.5)) is told


def test_a_habit_does_not_explain_much_more() -> None:
    past = flipping(20, 0.2, 0.0, 4, 9)
    assert change(past, -0.29) is None
    assert change(past, -0.31) is not None
    assert change(past, 0.31) is not None, "the other direction"


def test_another_epoch_has_to_learn_the_habit() -> None:
    """What it does to the new build is not known yet."""
    past = [*flipping(20, 0.5, 0.0, 4, 9), *history([0.0] * 5, [0.0] * 5, epoch=1)]
    assert change(past, -0.5) is not None


def test_on_a_machine_of_two_speeds_what_does_not_depend_on_it_is_judged() -> None:
    past = flipping(20, 0.5, 0.0, 4, 9, 14)
    assert judge(past, invocation(0.0, -0.5), cohort=QUIET).verdict is Verdict.PASSED
    assert looked_twice(past, -0.2, -0.5, cohort=QUIET).verdict is Verdict.REGRESSED


def test_what_the_slower_speed_did_before_is_no_regression() -> None:
    """Not even where those sessions were known to be disturbed; a sharp probe even explains it."""
    past = flipping(20, 0.5, 0.3, 4, 9, 14)
    explained = looked_twice(past, -0.3, -0.5, cohort=QUIET)
    assert (explained.verdict, explained.probe_weight > 0.5) == (Verdict.PASSED, True)
    blurred = invocation(-0.3, -0.5, probe_cv=0.05)
    slow = judge(past, blurred, [blurred] * 5, cohort=QUIET)
    assert (slow.verdict, slow.cause) == (Verdict.INCONCLUSIVE, Cause.RETURNING)
    usual = looked_twice(past, -0.3, 0.0, cohort=QUIET)
    assert usual.verdict is Verdict.REGRESSED, "the machine is as on most days"


def test_a_fresh_process_on_a_changed_machine_is_not_heard() -> None:
    past = history([0.005, -0.005] * 10, [0.0] * 20)
    slow, other = invocation(-0.1, 0.0), invocation(-0.1, lower(0.5))
    few = judge(past, slow, [slow, *[other] * 4], cohort=QUIET)
    assert (few.verdict, few.cause) == (Verdict.INCONCLUSIVE, Cause.DISTURBED)
    assert few.reasons[0] == "1 of 5 fresh workers measured undisturbed"
    assert few.reasons[1].startswith("the machine is slower: its bandwidth probe is 50% below")
    enough = judge(past, slow, [slow, slow, *[other] * 3], cohort=QUIET)
    assert enough.verdict is Verdict.REGRESSED


def test_the_speed_of_the_cores_is_a_probe_of_its_own() -> None:
    """A neighbour on a core's other half leaves the memory as it was."""
    past = history([0.0] * 10, [0.0] * 10, log_core=14.0)
    assert change(past, 0.0, log_core=14.0 + lower(0.03)) is None
    assert change(past, 0.0, log_core=14.0 + lower(0.37)) == (
        "the machine is slower: the speed of its cores is 37% below its own history (4% is usual)"
    )
    both = MachineSpeed(past).marked(invocation(0.0, lower(0.5), log_core=13.0))
    assert len(both.guard) == 2
    assert MachineSpeed(past).marked(both) == both, "what was found is not found twice"
    assert change(past, 0.0) is None, "it was not tried today"


def test_cores_that_a_neighbour_shares_now_and_then_are_a_habit() -> None:
    past = [
        session(-0.2, log_core=13.5, guard=FOUND) if each in (4, 9) else session(0.0, log_core=14.0)
        for each in range(20)
    ]
    shared = invocation(-0.2, log_core=13.5)
    judged = judge(past, shared, [shared] * 5, cohort=QUIET)
    assert (judged.verdict, judged.core_weight > 0.3) == (Verdict.PASSED, True), "it is explained"
    worse = invocation(-0.4, log_core=13.5)
    assert judge(past, worse, [worse] * 5, cohort=QUIET).verdict is Verdict.REGRESSED
    once = judge(past[:9], shared, cohort=QUIET)
    assert (once.verdict, once.cause) == (Verdict.INCONCLUSIVE, Cause.MACHINE_CHANGED)


def test_a_habit_is_forgotten_with_what_it_did() -> None:
    """Both by the latest 20 sessions: else a slow machine would be known, and its loss not."""
    past = flipping(30, 0.5, 0.3, 4, 9)
    slow = looked_twice(past, -0.3, -0.5, cohort=QUIET)
    assert (slow.verdict, slow.cause) == (Verdict.INCONCLUSIVE, Cause.MACHINE_CHANGED)


def recorded(past: list[SessionSummary], offset: float, probe: float) -> list[SessionSummary]:
    """The past with one session more, as a run would record it."""
    seen = MachineSpeed(past).marked(invocation(offset, probe, probe_cv=0.05))
    return [*past, SessionSummary(**msgspec.structs.asdict(seen))]


def test_a_habit_excuses_no_loss_on_other_days() -> None:
    past: list[SessionSummary] = []
    for each in range(20):
        is_slow = each in (4, 9, 14, 17)
        past = recorded(past, -0.3 if is_slow else 0.0, -0.5 if is_slow else 0.0)
    assert [bool(past[each].guard) for each in (4, 9, 14, 17)] == [True, True, False, False]
    assert [each for each in range(20) if past[each].unusual] == [4, 9, 14, 17]
    lost = invocation(-0.3, 0.0, probe_cv=0.05)
    assert judge(past, lost, [lost] * 5, cohort=QUIET).verdict is Verdict.REGRESSED
    slow = invocation(-0.3, -0.5, probe_cv=0.05)
    assert judge(past, slow, [slow] * 5, cohort=QUIET).cause is Cause.RETURNING
    slower = change(past, -1.0)
    assert slower is not None, "what is unusual does not widen what is usual"


def test_a_seed_is_no_measure_of_the_machine_for_ever() -> None:
    """Five runs of one go beside a neighbour, then a quiet machine."""
    seed = history([0.0] * 5, log_core=13.55, seeded=True)
    own = history([0.0] * 5, log_core=14.0)
    assert change([*seed, *own[:4]], None, log_core=14.0) is not None
    assert change([*seed, *own], None, log_core=14.0) is None


def test_a_loss_beyond_what_a_slow_machine_explains_is_not_hidden_by_a_small_mde() -> None:
    """β was learned from two days: taken so far, it is nothing to be sure of."""
    past = flipping(20, 0.5, 0.3, 4, 9)
    judged = judge(past, invocation(-0.35, -0.5), cohort=QUIET)
    assert judged.probe_weight > 0
    usual = judge(past, invocation(0.0, 0.0), cohort=QUIET)
    assert (judged.mde or 0.0) > 0.05 > (usual.mde or 1.0)


def test_a_machine_faster_than_ever_is_not_taken_for_a_loss() -> None:
    """Up to a fifth, which is no other machine: what did not follow it has lost nothing."""
    past = [
        session(-0.2, log_core=13.5) if each in (4, 9) else session(0.0, log_core=14.0)
        for each in range(20)
    ]
    faster = invocation(0.0, log_core=14.14)
    judged = judge(past, faster, [faster] * 5, cohort=QUIET)
    assert judged.core_weight > 0.3
    assert judged.verdict is Verdict.PASSED
