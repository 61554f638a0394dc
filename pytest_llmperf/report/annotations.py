"""What is written beside the line of a test in GitHub's view of a change?

Workflow commands on the output (docs.github.com, "Workflow commands": ``::error file=…,line=…``).
GitHub shows ten of each kind of a step and drops the others, so that the worst come first and the
last one counts the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report.closing import suite_text
from pytest_llmperf.report.merged import Machine
from pytest_llmperf.report.result import JudgedTest

MOST = 10
_ORDER = [str(each) for each in Verdict]
_LONGEST = 400
"""Characters of a message."""


@dataclass(frozen=True)
class Annotation:
    """One remark."""

    kind: str
    """``error`` or ``warning``."""
    title: str
    message: str
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        """The workflow command."""
        place = {"file": self.file, "line": "" if self.line is None else str(self.line)}
        named = {**(place if self.file else {}), "title": self.title}
        properties = ",".join(f"{name}={_property(text)}" for name, text in named.items() if text)
        return f"::{self.kind} {properties}::{_data(self.message)}"


def annotate(machines: Sequence[Machine], trouble: str = "") -> list[Annotation]:
    """At most ten of each kind: red tests are errors, undecided ones warnings.

    ``trouble``: why no summary was written; it comes before the other warnings.
    """
    failed = [(test, "failed") for machine in machines for test in machine.failed_otherwise]
    judged = [
        (test, str(test.verdict))
        for machine in machines
        for test in machine.red
        if test not in machine.failed_otherwise
    ]
    judged.sort(key=lambda each: _ORDER.index(each[1]), reverse=True)
    undecided = [
        (test, str(test.verdict))
        for machine in machines
        for test in machine.tests
        if test not in machine.red and test.verdict is Verdict.INCONCLUSIVE
    ]
    suites = [
        Annotation("error", "llmperf: suite", suite_text(shift))
        for machine in machines
        for shift in machine.red_suites
    ]
    errors = [*suites, *_annotations("error", [*failed, *judged])]
    untold = [Annotation("warning", "llmperf", trouble)] if trouble else []
    warnings = [*untold, *_annotations("warning", undecided)]
    where = "" if trouble else ": see the summary of the job"
    return [*_most(errors, where), *_most(warnings, where)]


def _most(annotations: Sequence[Annotation], where: str) -> list[Annotation]:
    """``annotations``: of one kind, the worst first. ``where``: the others are."""
    if len(annotations) <= MOST:
        return list(annotations)
    rest = len(annotations) - MOST + 1
    counted = f"and {rest} more{where}"
    return [*annotations[: MOST - 1], Annotation(annotations[0].kind, "llmperf", counted)]


def _annotations(kind: str, tests: Sequence[tuple[JudgedTest, str]]) -> list[Annotation]:
    """``tests``: with what became of each."""
    told = []
    for test, became in tests:
        name = test.test.partition("::")[2]
        title, text = f"llmperf: {became}", f"{name}: {_why(test)}"
        told.append(Annotation(kind, title, text, test.file or "", test.line))
    return told


def _why(test: JudgedTest) -> str:
    reasons = [reason for each in test.measurements for reason in each.reasons]
    reasons += [check.reason for each in test.comparisons for check in each.checks if check.reason]
    text = test.reason or "; ".join(reasons) or "no reason given"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
