"""Do the figures of a placebo say of a series of sessions what can be worked out by hand?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from scipy import stats

from pytest_llmperf.gate import InvocationSummary, Judgement, SessionSummary, Verdict, judge
from pytest_llmperf.gate.baseline import PairKey
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.placebo import (
    Placebo,
    PlaceboSession,
    placebo,
    rounded_up,
    wilson,
)
from pytest_llmperf.gate.verdict import Cause
from tests.unit.gate.histories import CORES, coupled, history, invocation, level, noisy, swinging

CPU_43 = "tasks waited for a CPU: 43%, usually 20%"
CPU_51 = "tasks waited for a CPU: 51%, usually 21%"
BANDWIDTH = "the memory bandwidth is 9.1 GB/s, usually 14.0"
SLOWER = "the machine is slower: its bandwidth probe is 9% below its own history (4% is usual)"


def pair(
    *looks: InvocationSummary,
    metric: str = "decode_tps",
    model: str = "llama-15m",
    verdict: Verdict = Verdict.PASSED,
    **facts: Any,
) -> PairResult:
    """What became of one pair in one session; ``facts`` are further fields."""
    known: dict[str, Any] = {"judgement": Judgement(verdict=verdict), "conditions": {}} | facts
    return PairResult(
        module="selftest",
        key=PairKey(model, "1", metric, "config"),
        fingerprint="here",
        is_gated=True,
        verdict=verdict,
        tolerance=0.03,
        normal=None,
        since=None,
        value=math.exp(looks[0].log_value),
        looks=list(looks),
        software={},
        **known,
    )


def sessions(past: Sequence[InvocationSummary], **facts: Any) -> list[PlaceboSession]:
    """One pair a session."""
    return [PlaceboSession(pairs=[pair(each, **facts)]) for each in past]


def told(past: Sequence[InvocationSummary], **facts: Any) -> Placebo:
    """A complete placebo of one pair."""
    return placebo(sessions(past, **facts), len(past))


def with_verdicts(*verdicts: Verdict) -> list[PlaceboSession]:
    return [PlaceboSession(pairs=[pair(invocation(), verdict=each)]) for each in verdicts]


def test_a_steady_runner_can_hold() -> None:
    found = told(level(12))
    assert found.holds is True
    assert found.answer == (
        "This runner can hold a 5 % gate: the smallest loss it would find is 3.9 %."
    )
    assert (found.sessions, found.judged, found.red, found.red_rate) == (12, 12, 0, 0.0)
    assert found.pairs[0].session_cv == pytest.approx(0, abs=1e-6)


def test_sessions_that_differ_by_a_tenth_cannot() -> None:
    found = told(swinging(12, 0.05))
    assert found.holds is False
    mde = found.pairs[0].mde_full
    assert mde is not None
    assert mde > 0.10
    assert found.answer == (
        "This runner cannot hold a 5 % gate: the smallest loss it would find is "
        f"{rounded_up(mde)}; what disturbs it: nothing that can be seen from here."
    )


def test_the_noise_is_told_with_and_without_what_the_gate_presumes() -> None:
    """Twelve sessions at ±1 %: squares of 0.0012 over 11 degrees; the gate adds 4 of 2.5 %."""
    figures = told(swinging(12, 0.01)).pairs[0]
    assert figures.session_cv == pytest.approx(math.sqrt(0.0012 / 11))
    assert figures.sigma == pytest.approx(math.sqrt((0.0012 + 4 * 0.025**2) / 15))
    low, high = (math.sqrt(0.0012 / stats.chi2(11).ppf(each)) for each in (0.975, 0.025))
    assert (figures.session_cv_low, figures.session_cv_high) == pytest.approx((low, high))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Of 400 runners that differ by 1 %: 95 % ± 3 standard errors."""
    inside = 0
    for seed in range(400):
        figures = told(noisy(12, 0.01, seed)).pairs[0]
        assert figures.session_cv_low is not None
        assert figures.session_cv_high is not None
        inside += figures.session_cv_low < 0.01 < figures.session_cv_high
    assert 0.917 < inside / 400 < 0.983


def test_the_mde_of_a_whole_history_is_foreseen() -> None:
    """With 19 degrees of the variance found and the 4 presumed; t at 0.995 and at 0.80."""
    figures = told(swinging(12, 0.02)).pairs[0]
    variance = 12 * 0.02**2 / 11
    error = math.sqrt((19 * variance + 4 * 0.025**2) / 23) * math.sqrt(1 + 1.57 / 20)
    needed = (stats.t(23).ppf(0.995) + stats.t(23).ppf(0.80)) * error
    assert figures.mde_full == pytest.approx(-math.expm1(-needed))
    assert figures.mde == judge(swinging(12, 0.02), invocation()).mde


@pytest.mark.parametrize("size", [20, 40])
def test_a_whole_history_speaks_for_itself(size: int) -> None:
    past = swinging(size, 0.01)
    figures = told(past).pairs[0]
    assert figures.mde == judge(past, past[-1]).mde
    assert figures.mde_full == pytest.approx(figures.mde, rel=0.01)


def test_five_percent_is_the_border() -> None:
    """The noise at which the MDE crosses 5 % decides, and nothing else."""
    quiet, loud = told(swinging(20, 0.0085)), told(swinging(20, 0.0095))
    assert quiet.pairs[0].mde_full == pytest.approx(0.0490, abs=0.0005)
    assert loud.pairs[0].mde_full == pytest.approx(0.0505, abs=0.0003)
    assert (quiet.holds, loud.holds) == (True, False)


def test_a_runner_of_two_speeds_does_not_pass_for_its_more_frequent_one() -> None:
    """The gate draws three sessions of seven in as outliers, and believes in 1.7 %."""
    figures = told(history([0.0, 0.095] * 3 + [0.0])).pairs[0]
    assert figures.sigma < 0.02
    assert figures.session_cv == pytest.approx(0.095 * math.sqrt(12 / 7 / 6))
    assert figures.mde_full is not None
    assert figures.mde_full > 0.10


def test_the_worst_metric_decides() -> None:
    both = [
        PlaceboSession(pairs=[pair(steady), pair(loud, metric="prefill_tps")])
        for steady, loud in zip(level(20), swinging(20, 0.05), strict=True)
    ]
    found = placebo(both, 20)
    assert [each.metric for each in found.pairs] == ["decode_tps", "prefill_tps"]
    assert found.holds is False


def test_a_false_red_is_counted_and_no_steadiness_makes_up_for_it() -> None:
    verdicts = [Verdict.NO_BASELINE] * 3 + [Verdict.PASSED] * 8 + [Verdict.REGRESSED]
    found = placebo(with_verdicts(*verdicts), 12)
    assert (found.judged, found.red) == (9, 1)
    assert found.red_rate == pytest.approx(1 / 9)
    assert (found.red_low, found.red_high) == pytest.approx(wilson(1, 9))
    assert found.holds is False
    assert "1 of 9 unchanged sessions turned red; the smallest loss" in found.answer
    assert found.pairs[0].verdicts == {"NO_BASELINE": 3, "PASSED": 8, "REGRESSED": 1}


def test_a_session_is_red_once_however_many_of_its_pairs_are() -> None:
    red = [
        pair(invocation(), metric=metric, verdict=Verdict.REGRESSED)
        for metric in ("decode_tps", "prefill_tps")
    ]
    found = placebo([*with_verdicts(*[Verdict.PASSED] * 9), PlaceboSession(pairs=red)], 10)
    assert (found.judged, found.red) == (10, 1)


def test_a_size_has_no_noise_to_speak_of_and_can_be_red_all_the_same() -> None:
    grown = pair(invocation(), metric="ram", verdict=Verdict.REGRESSED)
    both = PlaceboSession(pairs=[pair(invocation()), grown])
    found = placebo([*sessions(level(11)), both], 12)
    assert [each.metric for each in found.pairs] == ["decode_tps"]
    assert (found.red, found.holds) == (1, False)


@pytest.mark.parametrize("verdict", [Verdict.IMPROVED, Verdict.INCONCLUSIVE])
def test_what_is_not_red_is_no_false_alarm(verdict: Verdict) -> None:
    found = placebo(with_verdicts(*[Verdict.PASSED] * 9, verdict), 10)
    assert (found.judged, found.red, found.holds) == (10, 0, True)


def test_an_invalid_measurement_is_red() -> None:
    broken = PlaceboSession(pairs=[], invalid=["llama-15m: 95 tokens generated, 96 asked for"])
    found = placebo([*sessions(level(11)), broken], 12)
    assert (found.judged, found.red, found.holds) == (12, 1, False)
    assert found.invalid == ["llama-15m: 95 tokens generated, 96 asked for"]
    assert found.pairs[0].sessions == 11


def test_nothing_valid_holds_nothing() -> None:
    found = placebo([PlaceboSession(pairs=[], invalid=["broken"])] * 5, 5)
    assert found.holds is False
    assert "5 of 5 unchanged sessions turned red; the smallest loss it would find is not known" in (
        found.answer
    )


@pytest.mark.parametrize(("count", "of"), [(0, 9), (1, 10), (5, 10), (9, 9), (0, 37), (2, 1000)])
def test_wilsons_interval_is_the_one_of_the_books(count: int, of: int) -> None:
    book = stats.binomtest(count, of).proportion_ci(method="wilson")
    assert wilson(count, of) == pytest.approx((book.low, book.high))


def test_nothing_judged_says_nothing_of_the_rate() -> None:
    found = placebo(with_verdicts(*[Verdict.NO_BASELINE] * 3), 12)
    assert (found.judged, found.red_rate) == (0, None)
    assert (found.red_low, found.red_high) == (0.0, 1.0)


def test_findings_are_counted_by_kind_once_a_session() -> None:
    disturbed = invocation(guard=(CPU_43,))
    both = [pair(disturbed), pair(disturbed, metric="prefill_tps")]
    second = pair(invocation(guard=(CPU_43,)), invocation(guard=(CPU_51, BANDWIDTH)))
    found = placebo(
        [PlaceboSession(pairs=both), PlaceboSession(pairs=[second]), *sessions(level(3))], 5
    )
    assert [(each.words, each.sessions) for each in found.disturbances] == [
        ("tasks waited for a CPU", 2),
        ("the memory bandwidth was not the usual one", 1),
    ]


def test_what_the_judge_found_of_the_machine_is_a_disturbance_too() -> None:
    slower = Judgement(verdict=Verdict.INCONCLUSIVE, cause=Cause.MACHINE_CHANGED, reasons=(SLOWER,))
    unsure = Judgement(verdict=Verdict.INCONCLUSIVE, cause=Cause.UNSURE, reasons=("4.1% worse",))
    found = placebo(
        [
            PlaceboSession(pairs=[pair(invocation(), judgement=each, verdict=each.verdict)])
            for each in (slower, unsure)
        ],
        2,
    )
    assert [(each.words, each.sessions) for each in found.disturbances] == [
        ("the machine is slower", 1)
    ]


def test_the_most_frequent_disturbances_are_named() -> None:
    past = swinging(20, 0.05)
    guarded = [
        msgspec.structs.replace(each, guard=(CPU_43,) if i % 2 else (CPU_43, BANDWIDTH))
        for i, each in enumerate(past)
    ]
    assert told(guarded).answer.endswith(
        "what disturbs it: tasks waited for a CPU (20 of 20 sessions), "
        "the memory bandwidth was not the usual one (10 of 20 sessions)."
    )


def test_what_always_disturbs_is_told_though_no_guard_finds_it_unusual() -> None:
    found = told(swinging(12, 0.05), conditions={"other_share": 0.12, "cpu_pressure": 0.6})
    assert found.always == ["other processes use 12% of the cores all the time"]
    assert "what disturbs it: other processes use 12% of the cores" in found.answer
    assert told(level(12), conditions={"other_share": 0.04}).always == []


def test_an_interrupted_placebo_does_not_decide() -> None:
    found = placebo(sessions(level(7)), 12)
    assert found.holds is None
    assert found.answer == (
        "Ended after 7 of 12 sessions: whether this runner can hold a 5 % gate was not decided."
    )
    assert found.pairs[0].sessions == 7


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_sessions_have_no_mde(count: int) -> None:
    figures = placebo(sessions(level(count)), 12).pairs[0]
    assert (figures.mde, figures.mde_full) == (None, None)
    assert (figures.session_cv is None) is (count == 1)


def test_no_session_at_all() -> None:
    found = placebo([], 12)
    assert (found.pairs, found.holds) == ([], None)


def test_a_probe_that_explains_is_taken_off() -> None:
    past = coupled(20, seed=4)
    figures = told(past).pairs[0]
    assert figures.probe_weight == judge(past, past[-1]).probe_weight > 0.5
    assert figures.probe_cv == 0.005
    assert figures.session_cv is not None
    assert figures.probe_session_cv is not None
    assert figures.session_cv < 0.006
    assert figures.probe_session_cv == pytest.approx(0.02, rel=0.4)


def test_cores_that_explain_are_taken_off() -> None:
    steps = [0.04 * (each % 3) for each in range(20)]
    past = [invocation(each, log_core=CORES + each) for each in steps]
    figures = told(past).pairs[0]
    assert figures.core_weight == judge(_sessions(past), past[-1]).core_weight > 0.9
    assert figures.core_session_cv == pytest.approx(0.0335, rel=0.05)
    assert figures.session_cv is not None
    assert figures.session_cv < 0.005


def _sessions(past: Sequence[InvocationSummary]) -> list[SessionSummary]:
    return [SessionSummary(**msgspec.structs.asdict(each)) for each in past]


def test_what_was_not_probed_has_no_figures_of_a_probe() -> None:
    figures = told(level(12)).pairs[0]
    assert (figures.probe_cv, figures.probe_session_cv, figures.probe_weight) == (None, None, 0)
    assert (figures.core_session_cv, figures.core_weight) == (None, 0)


def test_a_session_counts_as_the_mean_of_all_its_looks() -> None:
    """As a baseline keeps it: 0.5 % below in the mean, and not the 3 % of the first."""
    twice = PlaceboSession(pairs=[pair(invocation(-0.03), *[invocation()] * 5)])
    found = placebo([*sessions(level(11)), twice], 12).pairs[0]
    alone = told(history([0.0] * 11 + [-0.005])).pairs[0]
    assert found.second_looks == 1
    assert found.session_cv == pytest.approx(alone.session_cv)


def test_the_median_is_in_the_metrics_unit() -> None:
    offsets = [math.log(each / 20) - 3.0 + math.log(20) for each in (10, 20, 70)]
    past = [SessionSummary(log_value=3.0 + each, spread=0.01, n=10) for each in offsets]
    assert told(past).pairs[0].value == pytest.approx(20)


@pytest.mark.parametrize(
    ("share", "text"), [(0.05, "5.0 %"), (0.0501, "5.1 %"), (0.0391, "4.0 %"), (0.12, "12.0 %")]
)
def test_a_loss_is_rounded_up(share: float, text: str) -> None:
    assert rounded_up(share) == text
