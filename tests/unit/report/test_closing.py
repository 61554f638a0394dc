"""Does the last line count everything once?"""

from __future__ import annotations

from pytest_llmperf.report.closing import closing_lines
from tests.unit.gate.test_contract import measurement
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
