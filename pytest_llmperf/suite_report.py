"""How does a verdict over all tests become one test of its own, with its exit code and JUnit case?

The process that reports (under pytest-xdist the controller) makes a report as if a test of this
name had run after all others.
"""

from __future__ import annotations

from typing import Literal

import pytest

from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report import words

NODEID = "llmperf::suite-shift"


def shift_text(shift: SuiteShift) -> str:
    """Why it is red."""
    assert shift.effect is not None
    assert shift.needed is not None
    return (
        f"suite regressed: the median of {shift.pairs} pairs is {words.change(shift.effect)} "
        f"against its baselines\n"
        f"  baseline   {shift.sessions} sessions; more than {words.change(shift.needed)} is no "
        "accident\n"
        "  note       what all tests share changed: the engine, its build, the driver, the machine"
    )


def tell(config: pytest.Config, shifts: list[SuiteShift]) -> None:
    """Report the verdict, if there was enough to judge; the worst where there are several."""
    judged = [shift for shift in shifts if shift.verdict is not Verdict.NO_BASELINE]
    if not judged:
        return
    worst = min(judged, key=lambda shift: shift.effect or 0.0)
    red = worst.verdict is Verdict.REGRESSED
    for when in ("setup", "call", "teardown"):
        config.hook.pytest_runtest_logreport(
            report=_report(when, shift_text(worst) if red and when == "call" else None)
        )


def _report(when: Literal["setup", "call", "teardown"], text: str | None) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=NODEID,
        location=("llmperf", None, "suite-shift"),
        keywords={},
        outcome="passed" if text is None else "failed",
        longrepr=text,
        when=when,
    )
