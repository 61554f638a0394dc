"""Is a loss that all tests share found, and nothing else taken for one?"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import msgspec
import pytest
from scipy import stats

from pytest_llmperf.gate import InvocationSummary, SessionSummary, Verdict
from pytest_llmperf.gate.probe import MachineSpeed
from pytest_llmperf.gate.suite import Dated, SuiteShift, suite_shift
from tests.unit.gate.histories import (
    CENTRE,
    changed,
    coupled,
    history,
    invocation,
    level,
    lower,
    noisy,
    swinging,
)

Pair = tuple[Sequence[Dated], InvocationSummary]


def dated(sessions: Sequence[SessionSummary], first: int = 0) -> list[Dated]:
    return [(f"run-{number}", session) for number, session in enumerate(sessions, first)]


def suite(pairs: int, offset: float, seed: int = 1, sessions: int = 20) -> list[Pair]:
    """Pairs of 0.5 % noise, all of them ``offset`` away from their past."""
    draw = random.Random(seed)
    return [
        (
            dated(noisy(sessions, 0.005, 100 * seed + pair)),
            invocation(offset + draw.gauss(0.0, 0.005)),
        )
        for pair in range(pairs)
    ]


def alike(past: Sequence[SessionSummary], offset: float = 0.0, pairs: int = 20) -> SuiteShift:
    """What is said of pairs that all have the same past."""
    return suite_shift([(dated(past), invocation(offset))] * pairs)


@pytest.mark.parametrize("seed", range(1, 6))
def test_three_percent_of_all_pairs_are_found(seed: int) -> None:
    shift = suite_shift(suite(20, lower(0.03), seed))
    assert shift.verdict is Verdict.REGRESSED
    assert shift.effect == pytest.approx(-0.03, abs=0.005)
    assert (shift.pairs, shift.sessions) == (20, 20)


@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("offset", [0.0, 0.05, -0.005])
def test_a_suite_that_is_as_it_was_or_better_is_not_red(seed: int, offset: float) -> None:
    assert suite_shift(suite(20, offset, seed)).verdict is Verdict.PASSED


@pytest.mark.parametrize(("offset", "red"), [(-0.0386, False), (-0.0392, True)])
def test_a_shift_has_to_be_sure(offset: float, red: bool) -> None:
    """10 sessions of ±1 %: σ² = (4 · 0.01² + 0.001)/(4 + 9), times √1.157 and t(0.998; 13) =
    3.4887 give 3.8942 % of logs.
    """
    needed = stats.t.ppf(0.998, 13) * math.sqrt(0.0014 / 13 * 1.157)
    assert needed == pytest.approx(0.038942, abs=1e-6)
    shift = alike(swinging(10, 0.01), offset)
    assert shift.needed == pytest.approx(math.expm1(-needed))
    assert shift.effect == pytest.approx(math.expm1(offset))
    assert shift.verdict is (Verdict.REGRESSED if red else Verdict.PASSED)


def test_a_restless_suite_needs_more() -> None:
    """Its earlier medians differ, however quiet the rest."""
    assert alike(swinging(20, 0.03), lower(0.03)).verdict is Verdict.PASSED
    assert alike(swinging(20, 0.002), lower(0.03)).verdict is Verdict.REGRESSED


@pytest.mark.parametrize(("offset", "red"), [(-0.0137, False), (-0.0140, True)])
def test_even_a_suite_that_never_moved_may_move_a_little(offset: float, red: bool) -> None:
    """20 sessions: σ² = 4 · 0.01²/23, times √1.0785 and t(0.998; 23) = 3.1979: 1.3849 % of logs."""
    assert alike(level(20), offset).verdict is (Verdict.REGRESSED if red else Verdict.PASSED)


def test_a_young_suite_that_never_moved_may_lose_more() -> None:
    """5 sessions: σ² = 4 · 0.01²/8, times √1.314 and t(0.998; 8) = 3.9910: 3.2349 % of logs."""
    needed = stats.t.ppf(0.998, 8) * math.sqrt(0.0004 / 8 * 1.314)
    assert alike(level(5)).needed == pytest.approx(math.expm1(-needed))


@pytest.mark.parametrize(("loss", "red"), [(0.0099, False), (0.0101, True)])
def test_a_suite_may_lose_one_percent_however_well_it_is_known(loss: float, red: bool) -> None:
    """Two halves that were measured in turns have 40 sessions together: 0.94 % would be sure."""
    halves = [dated(level(20)), dated(level(20), first=20)]
    shift = suite_shift([(past, invocation(lower(loss))) for past in halves for _ in range(10)])
    assert shift.sessions == 40
    assert shift.needed == pytest.approx(-0.01)
    assert shift.verdict is (Verdict.REGRESSED if red else Verdict.PASSED)


@pytest.mark.parametrize("recorded", [1, 5, 20, 40])
@pytest.mark.parametrize("loss", [0.02, 0.05, 0.10])
def test_a_shift_that_stays_is_red_until_it_is_accepted(loss: float, recorded: int) -> None:
    """However often it is recorded, and though no two sessions are the same."""
    draw = random.Random(recorded)
    sessions = [draw.gauss(0.0, 0.003) for _ in range(20 + recorded)]
    sessions[20:] = [each + lower(loss) for each in sessions[20:]]
    shift = alike(history(sessions), lower(loss))
    assert shift.verdict is Verdict.REGRESSED
    assert shift.effect == pytest.approx(-loss, abs=0.003)


def test_a_shift_that_came_and_went_twice_is_none() -> None:
    jumps = [each in {5, 9, 10} for each in range(20)]
    shift = alike(history([-0.05 * each for each in jumps]), -0.05)
    assert shift.verdict is Verdict.PASSED
    assert shift.needed == pytest.approx(math.expm1(-0.075))


@pytest.mark.parametrize("offset", [-3.0, 3.0])
def test_one_terrible_test_moves_nothing(offset: float) -> None:
    quiet = suite(20, 0.0)
    usual = suite_shift(quiet)
    quiet[0] = (quiet[0][0], invocation(offset))
    shift = suite_shift(quiet)
    assert shift.verdict is Verdict.PASSED
    assert shift.effect == pytest.approx(usual.effect, abs=0.003)


def test_terrible_tests_of_the_past_moved_nothing_either() -> None:
    """In each earlier session another test was a twentieth as fast as usual."""
    pairs = suite(20, lower(0.03))
    wild = msgspec.structs.replace(level(1)[0], log_value=CENTRE - 3.0)
    torn = [
        ([(name, wild if at == pair else s) for at, (name, s) in enumerate(past)], now)
        for pair, (past, now) in enumerate(pairs)
    ]
    shift = suite_shift(torn)
    assert shift.verdict is Verdict.REGRESSED
    assert shift.needed == pytest.approx(suite_shift(pairs).needed, rel=0.05)


def test_the_order_of_pairs_does_not_matter() -> None:
    pairs = suite(20, lower(0.01))
    assert suite_shift(pairs[::-1]) == suite_shift(pairs)


def test_nine_pairs_are_no_suite() -> None:
    shift = suite_shift(suite(9, lower(0.5)))
    assert shift == SuiteShift(
        verdict=Verdict.NO_BASELINE, pairs=9, reason="9 pairs with 5 sessions, and 10 are needed"
    )
    assert suite_shift(suite(10, lower(0.5))).verdict is Verdict.REGRESSED


HALVED = lower(0.5)
THROTTLED = ("the CPU was throttled: 9%, usually 0%",)


def on_a_changed_machine(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """The first ``count`` of the pairs measured while it was throttled, at a third of the speed."""
    slow = invocation(-1.1, guard=THROTTLED)
    return [(past, slow if at < count else now) for at, (past, now) in enumerate(pairs)]


@pytest.mark.parametrize(("offset", "verdict"), [(0.0, "PASSED"), (lower(0.03), "REGRESSED")])
def test_pairs_whose_machine_changed_are_left_out(offset: float, verdict: str) -> None:
    shift = suite_shift(on_a_changed_machine(suite(20, offset), 5))
    assert shift.verdict == verdict
    assert shift.pairs == 15


@pytest.mark.parametrize("offset", [-0.7, 0.0, 0.7])
@pytest.mark.parametrize(("pairs", "changed"), [(23, 6), (20, 20), (12, 3)])
def test_a_machine_that_changed_for_many_pairs_accuses_no_build(
    pairs: int, changed: int, offset: float
) -> None:
    """More than a quarter of them; or fewer, where less than ten are left."""
    assert suite_shift(on_a_changed_machine(suite(pairs, offset), changed)) == SuiteShift(
        verdict=Verdict.INCONCLUSIVE,
        pairs=pairs,
        reason=f"the machine changed for {changed} of {pairs} pairs",
    )


def test_a_machine_at_half_its_speed_accuses_no_build() -> None:
    """The values lost more than a probe's part of four fifths can explain."""
    slow = invocation(0.8 * HALVED - 0.15, HALVED)
    shift = suite_shift([(dated(coupled(20, seed)), slow) for seed in range(12)])
    assert shift.verdict is Verdict.INCONCLUSIVE
    assert shift.reason == "the machine changed for 12 of 12 pairs"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -200.0])
def test_what_is_no_number_decides_nothing(bad: float) -> None:
    pairs = suite(20, 0.0)
    pairs[7] = (pairs[7][0], msgspec.structs.replace(pairs[7][1], log_value=bad))
    assert suite_shift(pairs) == SuiteShift(
        verdict=Verdict.INCONCLUSIVE, pairs=20, reason="a value is not a number"
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -200.0])
def test_a_past_that_is_no_number_is_none(bad: float) -> None:
    broken = [(dated(changed(level(20), 3, log_value=bad)), invocation(bad))] * 9
    assert suite_shift([*broken, *suite(9, lower(0.5))]).verdict is Verdict.NO_BASELINE
    shift = suite_shift([*broken, *suite(10, lower(0.03))])
    assert shift.verdict is Verdict.REGRESSED
    assert shift.pairs == 10


def test_pairs_with_a_young_history_are_left_out() -> None:
    old, young = suite(9, lower(0.5)), suite(20, lower(0.5), sessions=4)
    assert suite_shift([*old, *young]).verdict is Verdict.NO_BASELINE
    shift = suite_shift([*suite(10, 0.0), *young])
    assert shift.verdict is Verdict.PASSED
    assert shift.pairs == 10


def test_sessions_that_measured_a_part_are_no_past() -> None:
    """The last session measured nine of twenty pairs, all of them three times as slow."""
    whole = suite(20, lower(0.03))
    slow = msgspec.structs.replace(level(1)[0], log_value=CENTRE - 1.1)
    partly = [
        ([*past, ("part", slow)] if pair < 9 else past, now)
        for pair, (past, now) in enumerate(whole)
    ]
    usual, shift = suite_shift(whole), suite_shift(partly)
    assert shift.verdict is Verdict.REGRESSED
    assert shift.needed == pytest.approx(usual.needed, rel=0.05)
    assert shift.sessions == 20


def test_four_whole_sessions_are_no_past() -> None:
    """Each pair has six sessions, and only four of them in common."""
    pairs = [
        ([*dated(level(2), 100 + 2 * pair), *dated(level(4))], invocation(lower(0.5)))
        for pair in range(20)
    ]
    shift = suite_shift(pairs)
    assert shift.verdict is Verdict.NO_BASELINE
    assert shift.reason == "4 earlier sessions of the suite, and 5 are needed"
    five = [([*past, ("run-9", level(1)[0])], now) for past, now in pairs]
    assert suite_shift(five).verdict is Verdict.REGRESSED


def test_sessions_before_an_acceptance_are_no_past() -> None:
    """What was twice as fast then has no say in what is usual now."""
    before = [msgspec.structs.replace(s, log_value=CENTRE + 0.7) for s in level(10)]
    shift = alike([*before, *level(6, epoch=1)], lower(0.04))
    assert shift.verdict is Verdict.REGRESSED
    assert shift.sessions == 6


def test_the_noise_is_that_of_the_latest_20_sessions() -> None:
    shift = alike([*swinging(20, 0.3), *swinging(20, 0.002)], lower(0.03))
    assert shift.verdict is Verdict.REGRESSED
    assert shift.sessions == 40


def test_the_machines_day_is_taken_off_where_a_probe_saw_it() -> None:
    pairs: list[Pair] = [
        (dated(coupled(20, seed)), invocation(0.8 * -0.035, -0.035)) for seed in range(12)
    ]
    shift = suite_shift(pairs)
    assert shift.verdict is Verdict.PASSED
    assert shift.effect == pytest.approx(0, abs=0.005)
    unprobed = [(past, invocation(now.log_value - CENTRE)) for past, now in pairs]
    assert suite_shift(unprobed).effect == pytest.approx(-0.028, abs=0.005)
    blurred = [(past, msgspec.structs.replace(now, probe_cv=0.3)) for past, now in pairs]
    assert suite_shift(blurred).effect == pytest.approx(-0.028, abs=0.005)


def test_a_seed_without_a_probe_does_not_hide_a_loss_from_the_suite() -> None:
    past = [*level(5, seeded=True), *coupled(9, 1)]
    found = suite_shift([(dated(past), invocation(-0.5, 0.0))] * 12)
    assert found.verdict is Verdict.REGRESSED


def test_the_invocations_of_a_seed_are_no_sessions_of_the_suite() -> None:
    seeded = dated(level(5, seeded=True))
    assert suite_shift([(seeded, invocation(-0.04))] * 20).verdict is Verdict.NO_BASELINE


def habitual(sessions: int, *slow: int) -> list[SessionSummary]:
    """A machine that falls by half now and then, its sessions recorded as a run would."""
    past: list[SessionSummary] = []
    for each in range(sessions):
        fall, loss = (-0.5, -0.3) if each in slow else (0.0, 0.0)
        seen = MachineSpeed(past).marked(invocation(loss, fall, probe_cv=0.05))
        past.append(SessionSummary(**msgspec.structs.asdict(seen)))
    return past


def on_a_slow_day(past: Sequence[SessionSummary], offset: float = -0.3) -> SuiteShift:
    return suite_shift([(dated(past), invocation(offset, -0.5, probe_cv=0.05))] * 12)


def test_a_slow_day_of_the_machine_is_no_loss_of_the_suite() -> None:
    """Neither a first one, nor the third, nor those that follow."""
    for slow in ((), (4,), (4, 9), (4, 9, 12), (4, 9, 11, 13)):
        shift = on_a_slow_day(habitual(16, *slow))
        assert shift.verdict is Verdict.INCONCLUSIVE, slow
        assert shift.reason == "the machine changed for 12 of 12 pairs"
    known = habitual(20, 2, 4, 7, 10, 13, 16)
    assert on_a_slow_day(known).verdict is Verdict.PASSED
    assert on_a_slow_day(known, -0.8).verdict is Verdict.REGRESSED
