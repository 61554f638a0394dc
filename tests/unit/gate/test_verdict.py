"""Does each history with each value lead to the verdict that a user needs, and to no other?"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from scipy import stats

from pytest_llmperf.gate import Cohort, Judgement, Verdict, judge
from pytest_llmperf.gate.verdict import TOLERANCE, Cause
from tests.unit.gate.histories import (
    CENTRE,
    QUIET,
    RAMP,
    changed,
    coupled,
    history,
    invocation,
    level,
    looked_twice,
    lower,
    noisy,
    swinging,
)


def test_the_usual_value_passes() -> None:
    judgement = judge(swinging(20, 0.005), invocation(), cohort=QUIET)
    assert judgement.verdict is Verdict.PASSED
    assert not judgement.wants_second_look
    assert judgement.effect == pytest.approx(0)
    assert judgement.sessions == 20
    assert (judgement.cause, judgement.reasons) == (None, ())


def test_a_loss_is_red_after_a_second_look_and_not_before() -> None:
    past = swinging(20, 0.005)
    suspect = judge(past, invocation(lower(0.05)), cohort=QUIET)
    assert suspect.verdict is Verdict.INCONCLUSIVE
    assert suspect.wants_second_look
    assert suspect.cause is Cause.SUSPECT
    assert suspect.reasons == ("suspect, and not looked at a second time",)
    judged = looked_twice(past, lower(0.05), cohort=QUIET)
    assert judged.verdict is Verdict.REGRESSED
    assert judged.cause is None
    assert not judged.wants_second_look
    assert judged.effect == pytest.approx(-0.05)


def test_a_gain_is_told_at_once_and_never_looked_at_again() -> None:
    judged = judge(swinging(20, 0.005), invocation(-lower(0.05)), cohort=QUIET)
    assert judged.verdict is Verdict.IMPROVED
    assert not judged.wants_second_look
    assert judged.effect == pytest.approx(1 / 0.95 - 1)


def test_a_latency_that_rises_is_a_loss() -> None:
    """Its caller turns the sign: from 100 to 110 ms is 1/1.1 of the speed."""
    past = [msgspec.structs.replace(s, log_value=-math.log(100)) for s in level(20)]
    slow, fast = (msgspec.structs.replace(past[0], log_value=-math.log(ms)) for ms in (110, 90))
    judged = judge(past, slow, [slow] * 3, cohort=QUIET)
    assert judged.verdict is Verdict.REGRESSED
    assert judged.effect == pytest.approx(1 / 1.1 - 1)
    assert judge(past, fast, cohort=QUIET).verdict is Verdict.IMPROVED


@pytest.mark.parametrize(("loss", "suspect"), [(0.0240, False), (0.0244, True)])
def test_a_suspect_has_lost_four_fifths_of_the_tolerance(loss: float, suspect: bool) -> None:
    """0.8 · log 0.97 = −0.024367, which is a loss of 2.407 %."""
    judged = judge(level(20), invocation(lower(loss)), cohort=QUIET)
    assert judged.wants_second_look is suspect
    assert judged.verdict is (Verdict.INCONCLUSIVE if suspect else Verdict.PASSED)


@pytest.mark.parametrize(("offset", "suspect"), [(-0.0564, False), (-0.0569, True)])
def test_a_suspect_is_beyond_the_noise_of_nineteen_in_twenty(offset: float, suspect: bool) -> None:
    """Sessions of ±3 %: σ² = (0.0025 + 10 · 0.0009)/13, σ = 2.9742 %, error 3.1992 %, and
    t(0.95; 13) = 1.770933 of it are 5.6656 %.
    """
    assert judge(swinging(10, 0.03), invocation(offset)).wants_second_look is suspect


@pytest.mark.parametrize(
    ("offset", "verdict"),
    [
        (-0.0295, Verdict.PASSED),
        (-0.0310, Verdict.INCONCLUSIVE),
        (-0.0528, Verdict.INCONCLUSIVE),
        (-0.0535, Verdict.REGRESSED),
        (0.0528, Verdict.PASSED),
        (0.0535, Verdict.IMPROVED),
    ],
)
def test_after_a_second_look_a_loss_needs_certainty(offset: float, verdict: Verdict) -> None:
    """Sessions of ±1 %, error 1.76494 % with 13 degrees of freedom; t(0.995; 13) = 3.012276 of it
    are 0.053165. A loss of 3 % is −0.030459.
    """
    assert looked_twice(swinging(10, 0.01), offset).verdict is verdict


def test_a_loss_that_is_not_sure_says_how_large_it_had_to_be() -> None:
    """1 − exp(−0.053165) = 5.18 %."""
    judged = looked_twice(swinging(10, 0.01), lower(0.04))
    assert judged.cause is Cause.UNSURE
    assert judged.reasons == (
        "4.0% worse, and sessions of this test differ too much to be sure: 5.2% would be",
    )


@pytest.mark.parametrize(("others", "verdict"), [(-0.020, "PASSED"), (-0.028, "REGRESSED")])
def test_all_invocations_count_the_first_included(others: float, verdict: str) -> None:
    """Means of −5 % and three others: −2.75 % of logs, tolerated, and −3.35 %."""
    looks = [invocation(others)] * 3
    assert judge(level(20), invocation(-0.05), looks, cohort=QUIET).verdict == verdict


def test_processes_that_differ_more_than_sessions_do_are_not_sure() -> None:
    """σ² = 0.0002/27, SE = 0.283 %, ν = 27. Of −12, −19 and −12 %, s² = 0.001633: it exceeds σ²
    by 0.001626, of which a third is 0.000542. So the error is √(0.00283² + 0.000542) = 2.345 %
    with 2.06 degrees of freedom, and t(0.995; 2.06) = 9.6 times that is more than 12 %.
    """
    apart = [invocation(each) for each in (-0.05, -0.12, -0.19, -0.12)]
    agreed = [invocation(-0.12)] * 4
    judged = judge(level(20), apart[0], apart[1:], cohort=QUIET)
    assert (judged.verdict, judged.cause) == (Verdict.INCONCLUSIVE, Cause.UNSURE)
    assert judged.reasons[0].startswith("11.3% worse, and the processes of this session differ too")
    assert judge(level(20), agreed[0], agreed[1:], cohort=QUIET).verdict is Verdict.REGRESSED
    low, high = judged.low or 0.0, judged.high or 0.0
    assert math.log1p(high) - math.log1p(low) == pytest.approx(2 * 4.186 * 0.02345, rel=0.005)


def test_fresh_workers_clear_a_process_that_was_unlucky() -> None:
    judged = judge(level(20), invocation(lower(0.10)), [invocation()] * 5, cohort=QUIET)
    assert judged.verdict is Verdict.PASSED


@pytest.mark.parametrize(("given", "red"), [(0.055, True), (0.065, False)])
def test_the_tolerance_is_the_users(given: float, red: bool) -> None:
    judged = looked_twice(level(20), lower(0.06), tolerance=given, cohort=QUIET)
    assert judged.verdict is (Verdict.REGRESSED if red else Verdict.PASSED)
    assert looked_twice(level(20), -lower(0.06), tolerance=given, cohort=QUIET).verdict is (
        Verdict.IMPROVED if red else Verdict.PASSED
    )


@pytest.mark.parametrize("sessions", [0, 1, 2])
def test_fewer_than_three_sessions_are_no_baseline(sessions: int) -> None:
    judged = judge(level(sessions), invocation(-5.0), [invocation(-5.0)] * 5, cohort=QUIET)
    assert judged == Judgement(
        verdict=Verdict.NO_BASELINE,
        sessions=sessions,
        cause=Cause.YOUNG,
        reasons=(f"{sessions} of 3 sessions of history",),
    )


@pytest.mark.parametrize(
    ("sessions", "least"),
    [(3, 0.10), (4, 0.10), (5, 0.05), (9, 0.05), (10, TOLERANCE), (40, TOLERANCE)],
)
def test_a_young_history_fails_only_what_is_large(sessions: int, least: float) -> None:
    past = level(sessions)
    assert looked_twice(past, lower(least - 0.002), cohort=QUIET).verdict is Verdict.PASSED
    assert looked_twice(past, lower(least + 0.002), cohort=QUIET).verdict is Verdict.REGRESSED


@pytest.mark.parametrize(("sessions", "given"), [(3, 0.15), (5, 0.07)])
def test_youth_never_makes_a_tolerance_smaller(sessions: int, given: float) -> None:
    past = level(sessions)
    for loss, red in ((given - 0.002, False), (given + 0.002, True)):
        judged = looked_twice(past, lower(loss), tolerance=given, cohort=QUIET)
        assert (judged.verdict is Verdict.REGRESSED) is red


def test_a_seed_is_judged_on_its_first_day() -> None:
    """As three sessions with σ = 5 %: error 8.0156 %, freedom 12, and t(0.995; 12) = 3.054540 of
    it are 0.2448, a loss of 21.7 %.
    """
    seed = level(5, seeded=True)
    judged = judge(seed, invocation(), cohort=QUIET)
    assert judged.verdict is Verdict.PASSED
    assert judged.sessions == 3
    assert looked_twice(seed, lower(0.21), cohort=QUIET).verdict is Verdict.INCONCLUSIVE
    assert looked_twice(seed, lower(0.22), cohort=QUIET).verdict is Verdict.REGRESSED


def test_a_seed_wears_off() -> None:
    past = [*noisy(5, 0.003, 1, seeded=True), *noisy(60, 0.003, 2)]
    loss = lower(0.06)
    assert looked_twice(past, loss, cohort=QUIET).verdict is Verdict.REGRESSED
    assert looked_twice(past[:10], loss, cohort=QUIET).verdict is Verdict.REGRESSED
    assert looked_twice(past[:9], loss, cohort=QUIET).verdict is Verdict.INCONCLUSIVE


def test_a_new_epoch_has_a_normal_of_its_own() -> None:
    old = swinging(20, 0.005)
    assert judge([*old, *level(2, epoch=1)], invocation()).verdict is Verdict.NO_BASELINE
    past = [*old, *history([-0.3] * 3, epoch=1)]
    assert judge(past, invocation(-0.3), cohort=QUIET).verdict is Verdict.PASSED
    assert judge(past, invocation(), cohort=QUIET).verdict is Verdict.IMPROVED
    young = looked_twice(past, -0.3 + lower(0.09), cohort=QUIET)
    assert young.verdict is Verdict.PASSED, "and is young again"


def test_a_slow_creep_is_found() -> None:
    """0.3 % a session: after 20 sessions the centre stays where it was."""
    slow = history([each * lower(0.003) for each in range(40)])
    assert judge(slow, invocation(40 * lower(0.003))).wants_second_look
    assert looked_twice(slow, 40 * lower(0.003)).verdict is Verdict.REGRESSED


@pytest.mark.parametrize("wild", [lower(0.4), -lower(0.4)])
def test_a_wild_session_does_not_blind_the_gate(wild: float) -> None:
    past = changed(noisy(20, 0.006, seed=5), 11, log_value=CENTRE + wild)
    assert looked_twice(past, lower(0.06), cohort=QUIET).verdict is Verdict.REGRESSED
    assert judge(past, invocation(), cohort=QUIET).verdict is Verdict.PASSED
    equal = changed(level(20), 11, log_value=CENTRE + wild)
    assert looked_twice(equal, lower(0.06)).verdict is Verdict.REGRESSED


@pytest.mark.parametrize("offset", [-0.7, -0.1, 0.0, 0.1, 0.7])
@pytest.mark.parametrize("probe_cv", [0.005, 0.05], ids=["used", "too blurred to be used"])
def test_a_machine_at_half_its_speed_decides_nothing(offset: float, probe_cv: float) -> None:
    past = history([0.8 * each for each in RAMP * 4], RAMP * 4, probe_cv=probe_cv)
    halved = invocation(offset, lower(0.5))
    for judged in (judge(past, halved), judge(past, halved, [halved] * 5)):
        assert judged.verdict is Verdict.INCONCLUSIVE
        assert not judged.wants_second_look
        assert judged.cause is Cause.MACHINE_CHANGED
        assert judged.reasons == (
            "the machine is slower: its bandwidth probe is 50% below its own history (4% is usual)",
        )


def test_one_slow_probe_among_many_accuses_no_machine() -> None:
    past = history([0.005, -0.005] * 10, [0.0] * 20)
    looks = [invocation(-0.1, lower(0.5)), *[invocation(-0.1, 0.0)] * 4]
    judged = judge(past, invocation(-0.1, 0.0), looks, cohort=QUIET)
    assert judged.verdict is Verdict.REGRESSED


@pytest.mark.parametrize("offset", [-0.7, 0.0, 0.7])
def test_what_changed_about_the_machine_is_the_reason(offset: float) -> None:
    found = ("the CPU was throttled: 9%, usually 0%", "major page faults: 900, usually 0")
    judged = judge(level(20), invocation(offset, guard=found), cohort=QUIET)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert not judged.wants_second_look
    assert judged.cause is Cause.MACHINE_CHANGED
    assert judged.reasons == found
    assert judged.effect == pytest.approx(math.expm1(offset)), "shown all the same"


@pytest.mark.parametrize(
    "bad", [{"guard": ("throttled",)}, {"n": 4}], ids=["disturbed", "too few samples"]
)
@pytest.mark.parametrize(("disturbed", "enough"), [(1, True), (3, True), (4, False), (5, False)])
def test_workers_that_say_little_are_left_out_of_a_second_look(
    disturbed: int, enough: bool, bad: dict[str, Any]
) -> None:
    """Their speed was three times as high; the others see the loss."""
    wild = [invocation(1.1, **bad)] * disturbed
    good = [invocation(lower(0.08), n=5)] * (5 - disturbed)
    judged = judge(level(20), invocation(lower(0.08)), [*wild, *good], cohort=QUIET)
    assert judged.verdict is (Verdict.REGRESSED if enough else Verdict.INCONCLUSIVE)
    assert judged.cause is (None if enough else Cause.DISTURBED)
    said = (f"{5 - disturbed} of 5 fresh workers measured undisturbed", *bad.get("guard", ()))
    assert judged.reasons == (() if enough else said)
    assert judged.effect == pytest.approx(-0.08)


def test_what_disturbed_fresh_workers_is_told_once_each() -> None:
    guards = [("throttled", "page faults"), ("throttled",), (), ("neighbours",)]
    looks = [invocation(-0.5, guard=guard) for guard in guards]
    judged = judge(level(20), invocation(-0.5), looks, cohort=QUIET)
    assert judged.cause is Cause.DISTURBED
    assert judged.reasons == (
        "1 of 4 fresh workers measured undisturbed", "throttled", "page faults", "neighbours",
    )  # fmt: skip


def test_one_fresh_worker_is_no_second_look() -> None:
    """The others failed, and are not told of here."""
    judged = judge(level(20), invocation(-0.5), [invocation(-0.5)], cohort=QUIET)
    assert judged.cause is Cause.DISTURBED
    assert judged.reasons == ("1 of 1 fresh workers measured undisturbed",)


def test_the_probes_part_is_taken_off_before_anything_is_judged() -> None:
    """A value that follows four fifths of its machine, on a day of −3.5 %."""
    past = coupled(20, seed=1)
    day = invocation(0.8 * -0.035, -0.035)
    judged = judge(past, day, cohort=QUIET)
    assert judged.verdict is Verdict.PASSED
    assert judged.effect == pytest.approx(0, abs=0.004)
    assert judged.probe_weight == pytest.approx(0.8, abs=0.05)
    loss = invocation(0.8 * -0.035 + lower(0.05), -0.035)
    assert judge(past, loss, [loss] * 5, cohort=QUIET).verdict is Verdict.REGRESSED


@pytest.mark.parametrize("unprobed", [0, 5])
def test_where_one_look_has_no_probe_none_is_used(unprobed: int) -> None:
    looks = [invocation(0.1, 0.0)] * 6
    looks[unprobed] = invocation(0.1)
    judged = judge(coupled(20, seed=1), looks[0], looks[1:])
    assert judged.probe_weight == 0
    assert judged.effect == pytest.approx(math.expm1(0.1), abs=0.02)


@pytest.mark.parametrize("probe_cv", [0.3, None, math.nan])
def test_a_probe_that_is_blurred_today_is_not_used(probe_cv: float | None) -> None:
    past = coupled(20, seed=1)
    assert judge(past, invocation(0.0, 0.03)).probe_weight > 0
    judged = judge(past, invocation(0.0, 0.03, probe_cv=probe_cv))
    assert judged.probe_weight == 0
    assert judged.effect == pytest.approx(0, abs=0.02)


def test_one_blurred_probe_of_many_is_borne() -> None:
    looks = [invocation(0.0, 0.0)] * 5
    blurred = invocation(0.0, 0.0, probe_cv=0.3)
    assert judge(coupled(20, seed=1), looks[0], [*looks, blurred]).probe_weight > 0
    assert judge(coupled(20, seed=1), blurred, looks).probe_weight > 0


def test_a_probe_that_came_after_the_centre_was_frozen_is_not_used() -> None:
    """The centre is that of bare values."""
    past = [*noisy(20, 0.005, seed=1), *coupled(20, seed=2)]
    judged = looked_twice(past, 0.0, 0.0)
    assert judged.verdict is Verdict.PASSED
    assert judged.probe_weight == 0
    assert judged.effect == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("first", "fresh", "probe", "verdict"),
    [
        (lower(0.08), lower(0.08), lower(0.5), Verdict.REGRESSED),
        (lower(0.03), 0.0, 0.5, Verdict.PASSED),
    ],
    ids=["hides no loss", "makes none"],
)
def test_one_bad_probe_in_a_second_look(
    first: float, fresh: float, probe: float, verdict: Verdict
) -> None:
    looks = [*[invocation(fresh, 0.0)] * 4, invocation(fresh, probe)]
    judged = judge(coupled(20, seed=1), invocation(first, 0.0), looks, cohort=QUIET)
    assert judged.probe_weight > 0.7
    assert judged.verdict is verdict


@pytest.mark.parametrize(
    ("pairs", "alpha"), [(1, 0.005), (20, 0.005), (50, 0.002), (100, 0.001), (5000, 0.0005)]
)
def test_an_mde_is_the_loss_that_would_have_been_found(pairs: int, alpha: float) -> None:
    """Beyond what red takes by t(0.80) standard errors: σ² = (8 · 0.01² + 0.001)/17 for s₀ = 1 %
    and 10 sessions of ±1 %; α = 0.1/pairs, kept within 0.0005 and 0.005.
    """
    error = math.sqrt(0.0018 / 17 * 1.157)
    needed = stats.t.ppf(1 - alpha, 17) * error
    found = needed + stats.t.ppf(0.80, 17) * error
    judged = judge(swinging(10, 0.01), invocation(), cohort=Cohort(noise=0.01, pairs=pairs))
    assert needed > -lower(TOLERANCE)
    assert judged.mde == pytest.approx(1 - math.exp(-found), rel=1e-6)


def test_an_mde_is_never_within_the_tolerance() -> None:
    """20 equal sessions: error² = 8 · 0.005²/27 · 1.0785 is small, and the tolerance 10 %."""
    error = math.sqrt(0.0002 / 27 * 1.0785)
    judged = judge(level(20), invocation(), tolerance=0.10, cohort=QUIET)
    assert judged.mde == pytest.approx(1 - 0.9 * math.exp(-stats.t.ppf(0.80, 27) * error))


def test_the_interval_is_that_of_95_percent() -> None:
    half = stats.t.ppf(0.975, 13) * math.sqrt(0.0035 / 13 * 1.157)
    judged = judge(swinging(10, 0.01), invocation(0.02))
    assert judged.low == pytest.approx(math.expm1(0.02 - half))
    assert judged.high == pytest.approx(math.expm1(0.02 + half))


@pytest.mark.parametrize(("tolerance", "said"), [(0.03, True), (0.035, False)])
def test_a_pass_that_would_have_missed_much_says_so(tolerance: float, said: bool) -> None:
    """Sessions of ±1 %, as above: the MDE is 6.6 %, which is more than twice 3 %."""
    judged = judge(swinging(10, 0.01), invocation(), tolerance=tolerance)
    assert judged.verdict is Verdict.PASSED
    assert judged.mde == pytest.approx(0.0662, abs=0.0001)
    reason = "underpowered: a loss of less than 7% may go unseen"
    assert judged.cause is (Cause.UNDERPOWERED if said else None)
    assert judged.reasons == ((reason,) if said else ())
