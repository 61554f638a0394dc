"""Does the last line count everything once?"""

from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf.gate import Cause, Judgement, Verdict
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.report.closing import closing_lines
from pytest_llmperf.report.result import JudgedTest  # pytest would collect Test…
from tests.unit.gate.test_contract import measurement
from tests.unit.report.test_failure import DECODE
from tests.unit.report.test_result import judge_it, one_test


def test_nothing_at_all() -> None:
    assert closing_lines([]) == ["llmperf: 0 measurements, 0 budgets judged"]


def test_one_of_each_is_singular() -> None:
    passed = judge_it(measurement(decode_tps=30), min_tps=20)
    assert closing_lines([one_test(passed)]) == [
        "llmperf: 1 measurement, 1 budget judged: 1 passed"
    ]


def test_everything_is_counted_once_under_its_own_verdict() -> None:
    seen = measurement(decode_tps=30, ttft=100)
    passed = judge_it(seen, min_tps=20, max_ttft_ms=200)
    over = judge_it(seen, min_tps=40)
    inconclusive = judge_it(seen, max_vram_gb=6, min_tps=20)
    line, why = closing_lines(
        [
            one_test(passed, passed),
            one_test(over, outcome="failed"),
            one_test(inconclusive),
            one_test(judge_it(seen)),
            one_test(judge_it(measurement(invalid="too few tokens")), outcome="failed"),
        ]
    )
    assert line == (
        "llmperf: 6 measurements, 7 budgets judged: "
        "2 passed, 1 inconclusive, 1 without baseline, 1 over budget, 1 invalid"
    )
    assert why == (
        "  inconclusive 1×: max_vram_gb=6: vram was not measured by fake on this machine"
    )


def test_skips_are_counted_by_reason() -> None:
    no_gpu, no_engine = "needs a GPU, has none", "backend vllm is not installed"
    reasons = [no_gpu, no_engine, no_gpu, None]
    assert closing_lines([one_test(outcome="skipped", reason=reason) for reason in reasons]) == [
        "llmperf: 0 measurements, 0 budgets judged; 4 skipped",
        f"  skipped 2×: {no_gpu}",
        f"  skipped 1×: {no_engine}",
        "  skipped 1×: no reason given",
    ]


def test_what_failed_before_it_was_measured_is_said() -> None:
    tests = [
        one_test(outcome="failed", reason="WorkerDied"),
        one_test(outcome="error"),
        one_test(judge_it(measurement(decode_tps=30), min_tps=40), outcome="failed"),
    ]
    assert closing_lines(tests) == [
        "llmperf: 1 measurement, 1 budget judged: 1 over budget; 2 failed unmeasured"
    ]


def pair(verdict: Verdict, *reasons: str) -> PairResult:
    cause = Cause.YOUNG if verdict is Verdict.NO_BASELINE else None
    judgement = Judgement(verdict=verdict, cause=cause, reasons=reasons)
    normal = None if verdict is Verdict.NO_BASELINE else DECODE.normal
    return msgspec.structs.replace(DECODE, verdict=verdict, judgement=judgement, normal=normal)


def compared(*pairs: PairResult, verdict: Verdict = Verdict.PASSED) -> JudgedTest:
    judged = judge_it(measurement(decode_tps=184))
    return one_test(msgspec.structs.replace(judged, verdict=verdict, pairs=list(pairs)))


def test_an_improved_pair_says_how_to_accept_it() -> None:
    improved = pair(Verdict.IMPROVED)
    assert closing_lines([compared(improved, improved, verdict=Verdict.IMPROVED)]) == [
        "llmperf: 1 measurement, 0 budgets judged, 2 baselines compared: 1 improved",
        "  improved 2×: accept it with --llmperf-accept=WHY, or the next loss hides in",
        "    the gain",
    ]


def test_a_pair_without_baseline_was_not_compared() -> None:
    young = pair(Verdict.NO_BASELINE, "1 of 3 sessions of history")
    moved = pair(Verdict.NO_BASELINE, "its baseline is of another: record it by --llmperf-record")
    fine = pair(Verdict.PASSED)
    assert closing_lines([compared(young, young, moved, fine, verdict=Verdict.NO_BASELINE)]) == [
        "llmperf: 1 measurement, 0 budgets judged, 1 baseline compared: 1 without baseline",
        "  without baseline 2×: 1 of 3 sessions of history; record more with",
        "    --llmperf-record",
        "  without baseline 1×: its baseline is of another: record it by --llmperf-record",
    ]
    (line, *_) = closing_lines([compared(young, verdict=Verdict.NO_BASELINE)])
    assert line == "llmperf: 1 measurement, 0 budgets judged: 1 without baseline"


def test_what_does_not_count_is_not_told() -> None:
    unasked = msgspec.structs.replace(pair(Verdict.NO_BASELINE, "0 of 3"), is_gated=False)
    assert len(closing_lines([compared(unasked, verdict=Verdict.NO_BASELINE)])) == 1


FINE = SuiteShift(
    verdict=Verdict.PASSED, effect=-0.025, needed=-0.026, pairs=12, sessions=9, fingerprint="here"
)
RED = msgspec.structs.replace(FINE, verdict=Verdict.REGRESSED, effect=-0.04)
UNSURE = SuiteShift(
    verdict=Verdict.INCONCLUSIVE, reason="the machine changed for 5 of 12 pairs", fingerprint="here"
)
YOUNG = SuiteShift(
    verdict=Verdict.NO_BASELINE,
    reason="4 pairs with 5 sessions, and 10 are needed",
    fingerprint="here",
)


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        (FINE, "  suite: −2.5 % over 12 metrics, red below −2.6 %"),
        (RED, "  suite: regressed, −4.0 % over 12 metrics, red below −2.6 %"),
        (UNSURE, "  suite: inconclusive, the machine changed for 5 of 12 pairs"),
        (YOUNG, "  suite: not judged, 4 pairs with 5 sessions, and 10 are needed"),
    ],
)
def test_the_suite_has_a_line_whatever_became_of_it(shift: SuiteShift, said: str) -> None:
    line, suite = closing_lines([compared(pair(Verdict.PASSED))], [shift])
    assert suite == said
    assert line.endswith(": 1 passed, 1 suite regressed" if shift is RED else ": 1 passed")


def test_a_suite_without_any_baseline_is_not_missed() -> None:
    young = pair(Verdict.NO_BASELINE, "0 of 3 sessions of history")
    lines = closing_lines([compared(young, verdict=Verdict.NO_BASELINE)], [YOUNG])
    assert not any("suite" in line for line in lines)


def test_of_two_machines_each_suite_is_named() -> None:
    there = msgspec.structs.replace(RED, fingerprint="there")
    lines = closing_lines([compared(pair(Verdict.PASSED))], [FINE, there])
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "  suite on here",
        "  suite on there",
    ]


def test_looking_again_costs_what_the_clock_says() -> None:
    seen = measurement(decode_tps=184)
    again = msgspec.structs.replace(judge_it(seen, seen, min_tps=180), second_look_s=31.4)
    failed = msgspec.structs.replace(judge_it(seen, min_tps=180), second_look_s=10.0)
    unmoved = judge_it(seen, min_tps=180)
    assert closing_lines([one_test(again, failed, unmoved)])[1] == (
        "  looked again at 2 measurements: 41 s more"
    )
