"""How did the run go, in one line?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report import words
from pytest_llmperf.report.result import JudgedTest


def closing_lines(tests: list[JudgedTest], shifts: Sequence[SuiteShift] = ()) -> list[str]:
    """The counted line, then what it leaves open: each reason with how often it was given.

    ``shifts``: the verdicts over all tests together.
    """
    pairs = [
        pair for test in tests for each in test.measurements for pair in each.pairs if pair.is_gated
    ]
    return [
        _counted(tests, pairs, shifts),
        *_second_looks(tests),
        *_suites(shifts, pairs),
        *_improved(pairs),
        *(line for text in without_baseline(pairs) for line in _folded(text)),
        *_undecided(tests),
        *(f"  skipped {count}×: {reason}" for reason, count in skip_reasons(tests).items()),
    ]


def _counted(
    tests: list[JudgedTest], pairs: Sequence[PairResult], shifts: Sequence[SuiteShift]
) -> str:
    """Everything once, under its own verdict."""
    measured = sum(len(test.measurements) for test in tests)
    gates = sum(len(judged.checks) for test in tests for judged in test.measurements)
    compared = sum(pair.verdict is not Verdict.NO_BASELINE for pair in pairs)
    arms = sum(len(test.comparisons) for test in tests)
    line = f"llmperf: {words.count(measured, 'measurement')}, {words.count(gates, 'budget')} judged"
    if compared:
        line += f", {words.count(compared, 'baseline')} compared"
    if arms:
        line += f", {words.count(arms, 'comparison')}"
    verdicts = _verdicts(tests)
    parts = [f"{verdicts[each]} {word}" for each, word in words.VERDICTS.items() if verdicts[each]]
    red = sum(shift.verdict is Verdict.REGRESSED for shift in shifts)
    if red:
        parts.append(f"{words.count(red, 'suite')} regressed")
    if parts:
        line += f": {', '.join(parts)}"
    unmeasured = sum(test.outcome in {"failed", "error"} and not test.verdict for test in tests)
    if unmeasured:
        line += f"; {unmeasured} failed unmeasured"
    skipped = sum(test.outcome == "skipped" for test in tests)
    return f"{line}; {skipped} skipped" if skipped else line


def _verdicts(tests: list[JudgedTest]) -> Counter[Verdict]:
    """Of each measurement and comparison; a test's own where it has neither."""
    verdicts = Counter(judged.verdict for test in tests for judged in test.measurements)
    verdicts.update(each.verdict for test in tests for each in test.comparisons if each.verdict)
    verdicts.update(
        test.verdict
        for test in tests
        if test.verdict and not test.measurements and not test.comparisons
    )
    return verdicts


def _suites(shifts: Sequence[SuiteShift], pairs: Sequence[PairResult]) -> list[str]:
    """How all tests together did. Where there is no baseline yet, nobody asks."""
    known = {pair.fingerprint for pair in pairs if pair.normal is not None}
    told = [
        shift
        for shift in shifts
        if shift.verdict is not Verdict.NO_BASELINE or shift.fingerprint in known
    ]
    lines = []
    for shift in told:
        whose = f"suite on {shift.fingerprint}" if len(told) > 1 else "suite"
        lines += _folded(f"{whose}: {suite_text(shift)}")
    return lines


def suite_text(shift: SuiteShift) -> str:
    """``regressed, −2.1 % over 14 metrics, red below −1.6 %``, or why it was not judged."""
    if shift.effect is None or shift.needed is None:
        undecided = shift.verdict is Verdict.INCONCLUSIVE
        return f"{'inconclusive' if undecided else 'not judged'}, {shift.reason}"
    verdict = "regressed, " if shift.verdict is Verdict.REGRESSED else ""
    return (
        f"{verdict}{words.change(shift.effect)} over {words.count(shift.pairs, 'metric')}, "
        f"red below {words.change(shift.needed)}"
    )


def _improved(pairs: Sequence[PairResult]) -> list[str]:
    """A stale normal hides the next loss."""
    improved = sum(pair.verdict is Verdict.IMPROVED for pair in pairs)
    if not improved:
        return []
    return _folded(
        f"improved {improved}×: accept it with --llmperf-accept=WHY, or the next loss hides in "
        "the gain"
    )


def skip_reasons(tests: Sequence[JudgedTest]) -> Counter[str]:
    """Why tests were skipped, and how many for each reason."""
    return Counter(test.reason or "no reason given" for test in tests if test.outcome == "skipped")


def without_baseline(pairs: Sequence[PairResult]) -> list[str]:
    """Why nothing was compared, each reason once with how often it was given."""
    reasons = Counter(
        reason
        for pair in pairs
        if pair.verdict is Verdict.NO_BASELINE
        for reason in pair.judgement.reasons
    )
    return [
        f"without baseline {count}×: {reason}"
        + ("" if "--llmperf-record" in reason else "; record more with --llmperf-record")
        for reason, count in reasons.most_common()
    ]


def _folded(text: str) -> list[str]:
    return words.folded(f"  {text}", 4)


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
    looked = [
        each
        for test in tests
        for each in test.measurements
        if each.second_look or each.second_look_s
    ]
    if not looked:
        return []
    took_s = sum(each.second_look_s for each in looked)
    return [f"  looked again at {words.count(len(looked), 'measurement')}: {took_s:.0f} s more"]
