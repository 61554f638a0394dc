"""How did the run go, in one line?"""

from __future__ import annotations

from collections import Counter

from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report.result import JudgedTest

_WORDS = {
    Verdict.PASSED: "passed",
    Verdict.IMPROVED: "improved",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.NO_BASELINE: "without baseline",
    Verdict.REGRESSED: "regressed",
    Verdict.OVER_BUDGET: "over budget",
    Verdict.INVALID: "invalid",
}


def closing_lines(tests: list[JudgedTest]) -> list[str]:
    """The counted line, then each reason for a skip with how often it was given."""
    verdicts = Counter(judged.verdict for test in tests for judged in test.measurements)
    verdicts.update(test.verdict for test in tests if test.verdict and not test.measurements)
    gates = sum(len(judged.checks) for test in tests for judged in test.measurements)
    skipped = Counter(
        test.reason or "no reason given" for test in tests if test.outcome == "skipped"
    )
    parts = [f"{verdicts[verdict]} {word}" for verdict, word in _WORDS.items() if verdicts[verdict]]
    measured = sum(len(test.measurements) for test in tests)
    line = f"llmperf: {_count(measured, 'measurement')}, {_count(gates, 'budget')} judged"
    if parts:
        line += f": {', '.join(parts)}"
    unmeasured = [
        test for test in tests if test.outcome in {"failed", "error"} and not test.verdict
    ]
    if unmeasured:
        line += f"; {len(unmeasured)} failed unmeasured"
    if skipped:
        line += f"; {sum(skipped.values())} skipped"
    return [line, *(f"  skipped {count}×: {reason}" for reason, count in skipped.items())]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
