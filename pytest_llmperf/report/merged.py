"""What do several results say together: shards of one run, and runs of several machines?"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.gate.verdict import Verdict, worst
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.report.result import JudgedTest, RunResult

_RED = {"failed", "error"}
"""Outcomes of tests that make a run red."""
_TESTS_FAILED, _INTERRUPTED = 1, 2
_NOT_RED = {None, 0, 5}
"""Exit statuses of pytest; 5: nothing was run, or measured."""


class Color(enum.StrEnum):
    """What a run came to as a whole. Green is only what was found to be good."""

    RED = "red"
    INCOMPLETE = "incomplete"
    GREEN = "green"
    UNDECIDED = "undecided"
    NOTHING_MEASURED = "nothing measured"


class Overlap(Exception):
    """Two results of one machine hold the same test; the message names it and both."""


@dataclass(frozen=True)
class Machine:
    """Everything that was measured on machines of one fingerprint."""

    hardware: Hardware
    created: str
    """Of the latest result; UTC, ISO 8601."""
    llmperf: tuple[str, ...]
    """The versions of pytest-llmperf."""
    strict: bool
    """Whether any of its runs was."""
    tests: list[JudgedTest]
    suite_shifts: list[SuiteShift]
    notes: list[str]
    is_complete: bool = True
    """Whether none of its runs was interrupted."""
    missing: int = 0
    """Tests that interrupted runs were to run, and have no result of."""
    exit_statuses: tuple[int, ...] = ()
    """Of runs that ended red, and not by a test or by all of them together."""

    @property
    def failed_beside(self) -> bool:
        """Whether a run broke off, or ended red by something beside its tests."""
        return bool(self.exit_statuses) or not self.is_complete

    @property
    def red(self) -> list[JudgedTest]:
        """Tests that failed, or could not be run."""
        return [each for each in self.tests if each.outcome in _RED]

    @property
    def failed_otherwise(self) -> list[JudgedTest]:
        """Red tests whose verdict is not what made them so: an assertion did, or an error."""
        return [
            each
            for each in self.red
            if each.verdict is None or not each.verdict.fails(strict=self.strict)
        ]

    @property
    def red_suites(self) -> list[SuiteShift]:
        """All tests together, where that is what made the run red."""
        return [each for each in self.suite_shifts if _is_red(each, strict=self.strict)]

    @property
    def has_measured(self) -> bool:
        """Whether any test measured anything."""
        return any(each.measurements or each.comparisons for each in self.tests)

    @property
    def verdicts(self) -> Counter[Verdict]:
        """Of every test that has one, and did not fail otherwise."""
        left_out = self.failed_otherwise
        tests = [each for each in self.tests if each not in left_out]
        return Counter(each.verdict for each in tests if each.verdict is not None)


def merge(results: Mapping[str, RunResult]) -> list[Machine]:
    """By fingerprint, in the order of their first result. ``results``: by what each is called.

    Raises Overlap.
    """
    groups: dict[str, dict[str, RunResult]] = {}
    for name, result in results.items():
        groups.setdefault(result.hardware.fingerprint, {})[name] = result
    return [_machine(group) for group in groups.values()]


def color(machines: Sequence[Machine]) -> Color:
    """Red by a test, by all tests of a machine together, or by how pytest ended."""
    if any(each.red or each.red_suites or each.exit_statuses for each in machines):
        return Color.RED
    if not all(each.is_complete for each in machines):
        return Color.INCOMPLETE
    verdicts = {verdict for each in machines for verdict in each.verdicts}
    if verdicts & {Verdict.PASSED, Verdict.IMPROVED}:
        return Color.GREEN
    is_open = any(each.has_measured for each in machines)
    return Color.UNDECIDED if is_open else Color.NOTHING_MEASURED


def outcome(machines: Sequence[Machine]) -> str:
    """The worst verdict, in a word; ``FAILED`` for what failed otherwise, ``NOTHING_MEASURED``."""
    if any(each.failed_otherwise or each.failed_beside for each in machines):
        return "FAILED"
    verdicts = [verdict for each in machines for verdict in each.verdicts]
    verdicts += [shift.verdict for each in machines for shift in each.red_suites]
    return str(worst(verdicts)) if verdicts else "NOTHING_MEASURED"


def _machine(group: Mapping[str, RunResult]) -> Machine:
    _refuse_overlap(group)
    results: Sequence[RunResult] = list(group.values())
    return Machine(
        hardware=results[0].hardware,
        created=max(each.created for each in results),
        llmperf=tuple(dict.fromkeys(each.llmperf for each in results)),
        strict=any(each.strict for each in results),
        tests=[test for each in results for test in each.tests],
        suite_shifts=[shift for each in results for shift in each.suite_shifts],
        notes=[note for each in results for note in each.notes],
        is_complete=not any(each.interrupted for each in results),
        missing=sum(_missing(each) for each in results),
        exit_statuses=tuple(dict.fromkeys(filter(None, map(_unexplained, results)))),
    )


def _missing(result: RunResult) -> int:
    """How many tests an interrupted run has no result of."""
    if not result.interrupted or result.selected is None:
        return 0
    return max(0, result.selected - len(result.tests))


def _unexplained(result: RunResult) -> int | None:
    """The exit status of a red run, unless its tests or its interruption say why."""
    status = result.exit_status
    if status in _NOT_RED or (status == _INTERRUPTED and result.interrupted):
        return None
    tests = any(each.outcome in _RED for each in result.tests)
    suites = any(_is_red(each, strict=result.strict) for each in result.suite_shifts)
    return None if status == _TESTS_FAILED and (tests or suites) else status


def _is_red(shift: SuiteShift, *, strict: bool) -> bool:
    return shift.verdict is not Verdict.NO_BASELINE and shift.verdict.fails(strict=strict)


def _refuse_overlap(group: Mapping[str, RunResult]) -> None:
    seen: dict[str, str] = {}
    for name, result in group.items():
        for test in result.tests:
            if seen.setdefault(test.test, name) != name:
                raise Overlap(
                    f"{test.test} is in {seen[test.test]} and in {name}, of the same machine: "
                    "give the shards of one run, or results of several machines"
                )
