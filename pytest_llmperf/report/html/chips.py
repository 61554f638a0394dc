"""By which symbol, word and tone is a verdict told?"""

from __future__ import annotations

from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report.html.model import Chip
from pytest_llmperf.report.merged import Color, Machine
from pytest_llmperf.report.result import JudgedTest

_OF_VERDICT = {
    Verdict.INVALID: Chip("INVALID", "⊘", "bad"),
    Verdict.OVER_BUDGET: Chip("OVER BUDGET", "✕", "bad"),
    Verdict.REGRESSED: Chip("REGRESSED", "▼", "bad"),
    Verdict.INCONCLUSIVE: Chip("INCONCLUSIVE", "?", "open"),
    Verdict.NO_BASELINE: Chip("NO BASELINE", "○", "open"),
    Verdict.IMPROVED: Chip("IMPROVED", "▲", "good"),
    Verdict.PASSED: Chip("PASSED", "✓", "good"),
}
_FAILED = Chip("FAILED", "✕", "bad")
_ERROR = Chip("ERROR", "✕", "bad")
_SKIPPED = Chip("SKIPPED", "–", "none")
_UNJUDGED = Chip("UNJUDGED", "·", "none")
_OF_RUN = {
    Color.RED: Chip("RED", "✕", "bad"),
    Color.INCOMPLETE: Chip("INCOMPLETE", "?", "open"),
    Color.GREEN: Chip("GREEN", "✓", "good"),
    Color.UNDECIDED: Chip("UNDECIDED", "?", "open"),
    Color.NOTHING_MEASURED: Chip("NOTHING MEASURED", "–", "none"),
}
ORDER = (_ERROR, _FAILED, *_OF_VERDICT.values(), _UNJUDGED, _SKIPPED)
"""The worst first."""


def of_verdict(verdict: Verdict | None) -> Chip:
    """None: it was not judged."""
    return _UNJUDGED if verdict is None else _OF_VERDICT[verdict]


def of_test(test: JudgedTest, machine: Machine) -> Chip:
    """Its verdict, or what else made it red, or that it did not run."""
    if test in machine.failed_otherwise:
        return _ERROR if test.outcome == "error" else _FAILED
    if test.outcome == "skipped":
        return _SKIPPED
    return of_verdict(test.verdict)


def rank(chip: Chip) -> int:
    """The worse, the higher."""
    return len(ORDER) - ORDER.index(chip)


def of_run(color: Color) -> Chip:
    """The whole run."""
    return _OF_RUN[color]
