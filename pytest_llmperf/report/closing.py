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
    verdicts.update(each.verdict for test in tests for each in test.comparisons if each.verdict)
    verdicts.update(
        test.verdict
        for test in tests
        if test.verdict and not test.measurements and not test.comparisons
    )
    gates = sum(len(judged.checks) for test in tests for judged in test.measurements)
    skipped = Counter(
        test.reason or "no reason given" for test in tests if test.outcome == "skipped"
    )
    parts = [f"{verdicts[verdict]} {word}" for verdict, word in _WORDS.items() if verdicts[verdict]]
    measured = sum(len(test.measurements) for test in tests)
    pairs = sum(
        pair.is_gated for test in tests for each in test.measurements for pair in each.pairs
    )
    compared = f", {_count(pairs, 'baseline')} compared" if pairs else ""
    line = f"llmperf: {_count(measured, 'measurement')}, {_count(gates, 'budget')} judged{compared}"
    arms = sum(len(test.comparisons) for test in tests)
    if arms:
        line += f", {_count(arms, 'comparison')}"
    if parts:
        line += f": {', '.join(parts)}"
    unmeasured = [
        test for test in tests if test.outcome in {"failed", "error"} and not test.verdict
    ]
    if unmeasured:
        line += f"; {len(unmeasured)} failed unmeasured"
    if skipped:
        line += f"; {sum(skipped.values())} skipped"
    lines = [line, *_second_looks(tests), *_undecided(tests)]
    return [*lines, *(f"  skipped {count}×: {reason}" for reason, count in skipped.items())]


def _undecided(tests: list[JudgedTest]) -> list[str]:
    """Why nothing could be decided, each reason once with how often it was given."""
    reasons = Counter(
        reason
        for test in tests
        for each in test.measurements
        if each.verdict is Verdict.INCONCLUSIVE
        for reason in each.reasons
    )
    reasons.update(
        check.reason
        for test in tests
        for each in test.comparisons
        for check in each.checks
        if check.reason
    )
    return [f"  inconclusive {count}×: {reason}" for reason, count in reasons.most_common()]


def _second_looks(tests: list[JudgedTest]) -> list[str]:
    """What looking again has cost."""
    looks = [each.second_look for test in tests for each in test.measurements if each.second_look]
    if not looks:
        return []
    took_s = sum(fresh.wall_s + fresh.load_facts.load_s for each in looks for fresh in each)
    return [f"  looked again at {_count(len(looks), 'measurement')}: {took_s:.0f} s more"]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
