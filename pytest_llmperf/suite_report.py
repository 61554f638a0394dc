"""How does a verdict over all tests become one test of its own, with its exit code and JUnit case?

The process that reports (under pytest-xdist the controller) makes a report as if a test of this
name had run after all others.
"""

from __future__ import annotations

from typing import Literal

import pytest

from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.gate.verdict import Verdict, worst
from pytest_llmperf.report import words

NODEID = "llmperf::suite-shift"


def shift_text(shift: SuiteShift) -> str:
    """Why it is not green."""
    if shift.effect is None or shift.needed is None:
        return f"suite inconclusive: {shift.reason}"
    return (
        f"suite regressed: the median of {shift.pairs} pairs is {words.change(shift.effect)} "
        f"against its baselines\n"
        f"  baseline   {shift.sessions} sessions; a loss of more than "
        f"{words.percent(-shift.needed)} is no accident\n"
        "  note       what all tests share changed: engine, build, driver or machine\n"
        "  if wanted  --llmperf-accept=WHY makes it the new normal of all these pairs"
    )


def tell(config: pytest.Config, shifts: list[SuiteShift], *, strict: bool) -> None:
    """Report the verdict, if there was enough to judge; the worst where there are several.

    What could not be decided counts as a skipped test, and as a failed one if ``strict``.
    """
    judged = [shift for shift in shifts if shift.verdict is not Verdict.NO_BASELINE]
    if not judged:
        return
    verdict = worst([shift.verdict for shift in judged])
    shift = min(
        (shift for shift in judged if shift.verdict is verdict),
        key=lambda shift: shift.effect or 0.0,
    )
    call = _report("call")
    if verdict.fails(strict=strict):
        call.outcome, call.longrepr = "failed", shift_text(shift)
    elif verdict is Verdict.INCONCLUSIVE:
        call.outcome, call.longrepr = "skipped", (NODEID, 0, f"Skipped: {shift_text(shift)}")
    for report in (_report("setup"), call, _report("teardown")):
        config.hook.pytest_runtest_logreport(report=report)


def _report(when: Literal["setup", "call", "teardown"]) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=NODEID,
        location=("llmperf", None, "suite-shift"),
        keywords={},
        outcome="passed",
        longrepr=None,
        when=when,
    )
