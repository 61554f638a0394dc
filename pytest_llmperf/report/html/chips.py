"""By which symbol, word and tone is a verdict told?"""

from __future__ import annotations

from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report.html.model import Chip
from pytest_llmperf.report.merged import Color, Machine
from pytest_llmperf.report.result import JudgedTest

_OF_VERDICT = {
    verdict: Chip(verdict.replace("_", " "), symbol, tone)
    for verdict, symbol, tone in (
        (Verdict.INVALID, "⊘", "bad"),
        (Verdict.OVER_BUDGET, "✕", "bad"),
        (Verdict.REGRESSED, "▼", "bad"),
        (Verdict.INCONCLUSIVE, "?", "open"),
        (Verdict.NO_BASELINE, "○", "open"),
        (Verdict.IMPROVED, "▲", "good"),
        (Verdict.PASSED, "✓", "good"),
    )
}
_FAILED = Chip("FAILED", "✕", "bad")
_ERROR = Chip("ERROR", "✕", "bad")
_SKIPPED = Chip("SKIPPED", "–", "none")
_UNJUDGED = Chip("UNJUDGED", "·", "none")
_OF_RUN = {
    color: Chip(color.upper(), symbol, tone)
    for color, symbol, tone in (
        (Color.RED, "✕", "bad"),
        (Color.INCOMPLETE, "?", "open"),
        (Color.GREEN, "✓", "good"),
        (Color.UNDECIDED, "?", "open"),
        (Color.NOTHING_MEASURED, "–", "none"),
    )
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
