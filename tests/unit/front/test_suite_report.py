"""Is the verdict over all tests told as a test of its own, and as what it is?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.suite_report import NODEID, tell

LOST = SuiteShift(verdict=Verdict.REGRESSED, effect=-0.04, needed=-0.02, pairs=12, sessions=9)
FINE = SuiteShift(verdict=Verdict.PASSED, effect=0.01, needed=-0.02, pairs=12, sessions=9)
UNSURE = SuiteShift(
    verdict=Verdict.INCONCLUSIVE, pairs=12, reason="the machine changed for 5 of 12 pairs"
)
YOUNG = SuiteShift(verdict=Verdict.NO_BASELINE)


def told(*shifts: SuiteShift, strict: bool = False) -> list[pytest.TestReport]:
    """The reports that pytest gets."""
    reports: list[pytest.TestReport] = []

    def log(report: pytest.TestReport) -> None:
        reports.append(report)

    hook = SimpleNamespace(pytest_runtest_logreport=log)
    tell(cast("pytest.Config", SimpleNamespace(hook=hook)), list(shifts), strict=strict)
    return reports


@pytest.mark.parametrize(
    ("shifts", "strict", "outcome"),
    [
        ([FINE], True, "passed"),
        ([LOST], False, "failed"),
        ([FINE, LOST], False, "failed"),
        ([UNSURE], False, "skipped"),
        ([UNSURE], True, "failed"),
        ([UNSURE, FINE], False, "skipped"),
        ([LOST, UNSURE], True, "failed"),
        ([YOUNG, FINE], True, "passed"),
    ],
)
def test_the_worst_verdict_is_the_outcome(
    shifts: list[SuiteShift], strict: bool, outcome: str
) -> None:
    setup, call, teardown = told(*shifts, strict=strict)
    assert (setup.outcome, teardown.outcome) == ("passed", "passed")
    assert (call.nodeid, call.when, call.outcome) == (NODEID, "call", outcome)


def test_what_could_not_be_decided_says_why() -> None:
    call = told(UNSURE)[1]
    assert isinstance(call.longrepr, tuple)
    assert call.longrepr[2] == (
        "Skipped: suite inconclusive: the machine changed for 5 of 12 pairs"
    )
    assert str(told(UNSURE, strict=True)[1].longrepr) == (
        "suite inconclusive: the machine changed for 5 of 12 pairs"
    )


def test_the_red_one_is_told_though_another_is_unsure() -> None:
    assert str(told(UNSURE, LOST, FINE)[1].longrepr).startswith(
        "suite regressed: the median of 12 pairs is"
    )


def test_a_red_suite_fits_the_terminal_and_says_how_to_accept_it() -> None:
    assert str(told(LOST)[1].longrepr).splitlines() == [
        "suite regressed: the median of 12 pairs is −4.0 % against its baselines",
        "  baseline   9 sessions; a loss of more than 2 % is no accident",
        "  note       what all tests share changed: engine, build, driver or machine",
        "  if wanted  --llmperf-accept=WHY makes it the new normal of all these pairs",
    ]


def test_too_young_a_suite_says_nothing() -> None:
    assert told(YOUNG) == []
    assert told() == []
