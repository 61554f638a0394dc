"""Does every verdict keep its promises, whatever the past and the present look like?"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from pytest_llmperf.gate import (
    Cohort,
    InvocationSummary,
    SessionSummary,
    Verdict,
    judge,
)
from pytest_llmperf.gate.pair import mean
from pytest_llmperf.gate.verdict import TOLERANCE, Cause
from tests.unit.gate.histories import (
    CENTRE,
    QUIET,
    a_past,
    changed,
    coupled,
    invocation,
    level,
    looked_twice,
    lower,
    noisy,
    some_looks,
    swinging,
)

FROM_BEST = [Verdict.IMPROVED, Verdict.PASSED, Verdict.INCONCLUSIVE, Verdict.REGRESSED]
"""What becomes of a value that falls and falls."""
CAUSED = {
    None: {Verdict.PASSED, Verdict.IMPROVED, Verdict.REGRESSED},
    Cause.UNDERPOWERED: {Verdict.PASSED},
    Cause.YOUNG: {Verdict.NO_BASELINE},
}
"""Which verdicts a cause may stand beside; all others make it INCONCLUSIVE."""

Cases = list[tuple[Sequence[SessionSummary], list[InvocationSummary], Cohort | None]]


@pytest.fixture(scope="module")
def cases() -> Cases:
    draw = random.Random(20261121)
    cohorts = [None, QUIET, Cohort(pairs=100), Cohort(noise=0.02, pairs=100)]
    return [(a_past(draw), some_looks(draw), draw.choice(cohorts)) for _ in range(400)]


def test_every_case_has_a_verdict_that_explains_itself(cases: Cases) -> None:
    seen, causes = set(), set()
    for past, looks, cohort in cases:
        judged = judge(past, looks[0], looks[1:], cohort=cohort)
        seen.add(judged.verdict)
        causes.add(judged.cause)
        assert judged.verdict in CAUSED.get(judged.cause, {Verdict.INCONCLUSIVE})
        assert (judged.cause is None) == (judged.reasons == ())
        if judged.verdict is Verdict.REGRESSED:
            assert len(looks) > 1
        assert judged.wants_second_look == (judged.cause is Cause.SUSPECT)
        assert not (judged.wants_second_look and len(looks) > 1)
        if judged.effect is not None:
            assert judged.low is not None
            assert judged.high is not None
            assert judged.mde is not None
            assert judged.low < judged.effect < judged.high
            assert TOLERANCE < judged.mde <= 1
    assert seen == {*FROM_BEST, Verdict.NO_BASELINE}, "the cases are of every kind"
    assert causes == {*Cause, None}, "and of every cause"


def test_a_worse_value_never_has_a_better_verdict(cases: Cases) -> None:
    for past, looks, cohort in cases:
        judged = [
            judge(past, looks[0], looks[1:], cohort=cohort)
            for looks in (
                [msgspec.structs.replace(each, log_value=CENTRE + offset) for each in looks]
                for offset in (2.0, 0.3, 0.1, 0.05, 0.0, -0.02, -0.04, -0.07, -0.2, -2.0)
            )
        ]
        verdicts = [each.verdict for each in judged]
        if Verdict.NO_BASELINE in verdicts:
            assert set(verdicts) == {Verdict.NO_BASELINE}
        else:
            assert verdicts == sorted(verdicts, key=FROM_BEST.index)


def test_the_order_of_fresh_workers_does_not_matter(cases: Cases) -> None:
    for past, (first, *others), cohort in cases:
        one = judge(past, first, others, cohort=cohort)
        assert judge(past, first, others[::-1], cohort=cohort) == one


def test_a_disturbed_worker_more_changes_nothing(cases: Cases) -> None:
    """Nor one with too few samples."""
    for past, (first, *others), cohort in cases:
        one = judge(past, first, others, cohort=cohort)
        if not others or one.cause is Cause.DISTURBED:
            continue
        wild = invocation(5.0, -2.0, guard=("throttled",))
        few = invocation(-5.0, 2.0, n=4)
        assert judge(past, first, [wild, *others, few], cohort=cohort) == one


def test_units_do_not_matter(cases: Cases) -> None:
    """Values 400 times as large and probes in another one lead to the same numbers."""
    for past, looks, cohort in cases:
        one = judge(past, looks[0], looks[1:], cohort=cohort)
        others = [_scaled(each) for each in looks]
        other = judge([_scaled(each) for each in past], others[0], others[1:], cohort=cohort)
        assert (other.verdict, other.cause) == (one.verdict, one.cause)
        assert other.effect == pytest.approx(one.effect)
        assert other.mde == pytest.approx(one.mde)
        assert other.probe_weight == pytest.approx(one.probe_weight)


def _scaled(summary: Any) -> Any:
    log_probe = None if summary.log_probe is None else summary.log_probe - 10.0
    log_core = None if summary.log_core is None else summary.log_core + 3.0
    return msgspec.structs.replace(
        summary, log_value=summary.log_value + 6.0, log_probe=log_probe, log_core=log_core
    )


def test_whatever_is_no_number_neither_passes_nor_fails(cases: Cases) -> None:
    draw = random.Random(20261122)
    for past, looks, cohort in cases:
        value = draw.choice([math.nan, math.inf, -math.inf, 100.0, 1e308])
        bad = {draw.choice(["log_value", "log_probe", "log_core"]): value}
        at = draw.randrange(len(looks))
        wrong = [*looks[:at], msgspec.structs.replace(looks[at], **bad), *looks[at + 1 :]]
        every = [judge(past, wrong[0], wrong[1:], cohort=cohort)]
        if past:
            torn = changed(past, draw.randrange(len(past)), **bad)
            every.append(judge(torn, looks[0], looks[1:], cohort=cohort))
        assert {each.verdict for each in every} == {Verdict.INCONCLUSIVE}
        assert {each.cause for each in every} == {Cause.UNCOMPUTABLE}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 100.0, -800.0])
@pytest.mark.parametrize("place", ["history", "first", "second look"])
@pytest.mark.parametrize("field", ["log_value", "log_probe", "log_core"])
def test_what_is_no_number_decides_nothing(bad: float, place: str, field: str) -> None:
    past, looks = coupled(20, seed=1), [invocation(-0.5, 0.0)] * 6
    if place == "history":
        past = changed(past, 7, **{field: bad})
    else:
        at = 0 if place == "first" else 4
        looks[at] = msgspec.structs.replace(looks[at], **{field: bad})
    judged = judge(past, looks[0], looks[1:])
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert not judged.wants_second_look
    assert judged.effect is None
    assert judged.cause is Cause.UNCOMPUTABLE
    assert judged.reasons[0].startswith("no measurement comes to this: value ")
    assert f"{field.removeprefix('log_')} {bad}" in judged.reasons[0]


@pytest.mark.parametrize("tolerance", [math.nan, math.inf, -0.03, 0.0, 1.0])
def test_a_tolerance_that_is_no_share_decides_nothing(tolerance: float) -> None:
    for judged in (
        judge(level(10), invocation(-0.7), tolerance=tolerance),
        looked_twice(level(10), -0.7, tolerance=tolerance),
    ):
        assert judged.verdict is Verdict.INCONCLUSIVE
        assert judged.cause is Cause.UNCOMPUTABLE
        assert judged.reasons == (f"a tolerance lies between 0 and 1, not at {tolerance}",)


@pytest.mark.parametrize("noise", [math.nan, math.inf, -0.01])
def test_other_pairs_whose_noise_is_no_number_decide_nothing(noise: float) -> None:
    judged = looked_twice(level(10), -0.7, cohort=Cohort(noise=noise))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.cause is Cause.UNCOMPUTABLE
    assert judged.reasons == (f"the noise of the other pairs cannot be: {noise}",)


def test_a_session_that_gates_no_pair_is_one_of_one() -> None:
    past = swinging(10, 0.01)
    none, one = (
        judge(past, invocation(), cohort=Cohort(noise=0.01, pairs=pairs)) for pairs in (0, 1)
    )
    assert none == one


def test_other_pairs_without_any_noise_are_believed_half_a_percent() -> None:
    past = swinging(10, 0.01)
    assert judge(past, invocation(), cohort=Cohort(noise=0.0)) == judge(
        past, invocation(), cohort=Cohort(noise=0.005)
    )


@pytest.mark.parametrize(("n", "enough"), [(0, False), (4, False), (5, True)])
def test_a_median_takes_five_samples(n: int, enough: bool) -> None:
    judged = judge(level(20), invocation(n=n), cohort=QUIET)
    assert judged.verdict is (Verdict.PASSED if enough else Verdict.INCONCLUSIVE)
    assert judged.cause is (None if enough else Cause.UNCOMPUTABLE)
    assert judged.reasons == (() if enough else (f"{n} samples, and 5 are needed",))


def test_samples_without_any_spread_are_judged() -> None:
    """The spread of a process says nothing about how sessions differ."""
    judged = looked_twice(level(20, spread=0.0), lower(0.10), cohort=QUIET)
    assert judged.verdict is Verdict.REGRESSED


@pytest.mark.parametrize("scale", [-99.0, 99.0])
def test_enormous_and_tiny_values_are_judged_like_others(scale: float) -> None:
    past = [msgspec.structs.replace(s, log_value=scale) for s in level(20)]
    slow = msgspec.structs.replace(past[0], log_value=scale + lower(0.05))
    assert judge(past, past[0], cohort=QUIET).verdict is Verdict.PASSED
    assert judge(past, slow, [slow] * 5, cohort=QUIET).verdict is Verdict.REGRESSED


def test_losses_and_gains_beyond_measure_are_judged() -> None:
    """A factor of 1e39, either way."""
    assert looked_twice(level(20), -90.0, cohort=QUIET).effect == pytest.approx(-1)
    assert looked_twice(level(20), -90.0, cohort=QUIET).verdict is Verdict.REGRESSED
    assert looked_twice(level(20), 90.0, cohort=QUIET).verdict is Verdict.IMPROVED


def test_a_seed_without_a_probe_among_probed_sessions_does_not_blind() -> None:
    past = [*noisy(5, 0.003, 9, seeded=True), *coupled(5, 1)]
    judgement = looked_twice(past, lower(0.5), 0.0, cohort=QUIET)
    assert judgement.verdict is Verdict.REGRESSED


@pytest.mark.parametrize("noise", [1e3, 1e200])
def test_a_noise_that_cannot_be_decides_nothing(noise: float) -> None:
    judgement = judge(level(10), invocation(), cohort=Cohort(noise=noise))
    assert judgement.cause is Cause.UNCOMPUTABLE


def test_a_session_keeps_what_the_judge_heard() -> None:
    disturbed = invocation(1.1, guard=("throttled",))
    looks = [invocation(-0.08), *[invocation(-0.08)] * 2, *[disturbed] * 3]
    assert mean(looks).log_value == pytest.approx(CENTRE - 0.08)
    one_halved_probe = [*[invocation(0.0, 0.0)] * 5, invocation(0.0, -0.7)]
    assert mean(one_halved_probe).log_probe == one_halved_probe[0].log_probe
