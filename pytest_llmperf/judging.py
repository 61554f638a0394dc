"""When is a test judged? Inside its own call phase, after its body returned.

So its one report is right the first time: in JUnit, under pytest-xdist, with ``-x``, for ``--lf``.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import re
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf import markers
from pytest_llmperf.fixtures import TEST_RUN
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.origin import checkout
from pytest_llmperf.report import words
from pytest_llmperf.report.comparison import comparison_text
from pytest_llmperf.report.failure import failure_text
from pytest_llmperf.report.junit import OURS, properties
from pytest_llmperf.report.result import (
    Claim,
    Comparison,
    JudgedMeasurement,
    JudgedTest,
    Parameter,
    overall,
)
from pytest_llmperf.running_test import RunningTest
from pytest_llmperf.session import Session
from pytest_llmperf.suite_files import suites_folder
from pytest_llmperf.wish import NotRequired, PerfError

_EXACT = 2**53
"""The largest whole number that every reader of JSON keeps."""
_LONGEST = 1000
"""Characters of a parameter."""
UNMEASURED = "the test has limits, but measured nothing"

JUDGED: pytest.StashKey[list[JudgedMeasurement]] = pytest.StashKey()
COMPARED: pytest.StashKey[list[Comparison]] = pytest.StashKey()
VERDICT: pytest.StashKey[Verdict | None] = pytest.StashKey()


class Judging:
    """The hooks of one test after another, in the process that runs them."""

    def __init__(self, session: Session, root: Path) -> None:
        """``root``: of the tests."""
        self._session = session
        self._strict = session.settings.strict
        self._checkout = checkout(root).resolve()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Read the test's markers; skip what this machine is not made for."""
        if not markers.is_ours(item):
            return
        run = RunningTest(self._session, name_of(item))
        item.stash[TEST_RUN] = run
        try:
            run.limits = markers.read_perf(item.nodeid, item.iter_markers("perf"))
            run.check_requirement(markers.read_requires(item.nodeid, item.iter_markers("requires")))
        except NotRequired as error:
            raise pytest.skip.Exception(f"requires: {error}") from None
        except (markers.BadMarker, PerfError) as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Judge after the body returned; whatever it raised goes through untouched."""
        run = item.stash.get(TEST_RUN, None)
        if run is None:
            return (yield)
        try:
            outcome = yield
        except (Exception, pytest.fail.Exception, pytest.skip.Exception):
            self._show_unfinished(item, run)
            raise
        self._judge(item, run)
        return outcome

    def _judge(self, item: pytest.Item, run: RunningTest) -> None:
        try:
            # Once more, because a fixture or the body may have added a marker.
            run.limits = markers.read_perf(item.nodeid, item.iter_markers("perf"))
        except markers.BadMarker as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        judged = run.judge()
        self._keep(item, judged, run.compared)
        unmeasured = ""
        if run.limits.budgets and not judged:
            item.stash[VERDICT] = Verdict.INCONCLUSIVE
            if self._strict:
                unmeasured = f"red under --llmperf-strict: {UNMEASURED}"
        hardware = self._session.hardware
        broken = failure_text(judged, hardware, strict=self._strict)
        compared = comparison_text(run.compared, hardware, strict=self._strict)
        text = "\n".join(filter(None, (*run.troubles, unmeasured, broken, compared)))
        if text:
            raise pytest.fail.Exception(text, pytrace=False)

    def _show_unfinished(self, item: pytest.Item, run: RunningTest) -> None:
        """The body did not return: its numbers become a section of the report, not a verdict."""
        judged = run.judge(may_look_again=False)
        self._keep(item, judged, run.compared)
        for each in judged:
            lines = [
                words.labelled(name, quantity.median)
                for name, quantity in each.measurement.metrics.items()
            ]
            text = f"{each.verdict} (the test's body did not return)\n" + "\n".join(lines)
            item.add_report_section("call", "llmperf", text)
        for trouble in run.troubles:
            item.add_report_section("call", "llmperf", trouble)

    def _keep(
        self, item: pytest.Item, judged: list[JudgedMeasurement], compared: list[Comparison]
    ) -> None:
        item.stash[JUDGED] = judged
        item.stash[COMPARED] = compared
        item.stash[VERDICT] = overall(judged, compared)
        item.user_properties += properties(judged)

    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Keep only the worker that the next test may want, which others wait for meanwhile."""
        run = item.stash.get(TEST_RUN, None)
        if run is not None:
            run.end(keep=nextitem is not None and markers.is_ours(nextitem))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put a test's result on its report, which is all that crosses to xdist's controller."""
        report = yield
        is_measured = TEST_RUN in item.stash
        if not is_measured and self._claim(item) is None:
            return report
        if call.when == "call" or not report.passed:
            self._tell(item, call, report)
        if call.when == "teardown" and is_measured:  # pytest keeps every item until the run ends
            del item.stash[TEST_RUN]
            item.stash.setdefault(JUDGED, []).clear()
            item.stash.setdefault(COMPARED, []).clear()
        return report

    def _tell(
        self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> None:
        outcome, reason = _outcome(report, call)
        result = JudgedTest(
            test=name_of(item),
            line=_line(item),
            file=self._file(item),
            outcome=outcome,
            parameters=_parameters(item),
            claim=self._claim(item),
            told=_told(item),
            verdict=item.stash.get(VERDICT, None),
            measurements=item.stash.get(JUDGED, []),
            comparisons=item.stash.get(COMPARED, []),
            reason=reason,
        )
        report.llmperf = msgspec.json.encode(result).decode()  # type: ignore[attr-defined] # extra attributes of reports survive xdist
        report.llmperf_verdict = str(result.verdict or "")  # type: ignore[attr-defined] # as above

    def _file(self, item: pytest.Item) -> str | None:
        """Where its line is: of an inherited test the file that it was written in."""
        path = (item.config.rootpath / item.location[0]).resolve()
        if not path.is_relative_to(self._checkout):
            return None
        return path.relative_to(self._checkout).as_posix()

    def _claim(self, item: pytest.Item) -> Claim | None:
        """Of a test of a shipped suite; elsewhere the marker is somebody else's."""
        mark = item.get_closest_marker("claim")
        if mark is None or self._session.settings.suite is None:
            return None
        if not item.path.resolve().is_relative_to(suites_folder().resolve()):
            return None
        match mark.args:
            case (str(text),):
                return Claim(text=text, instead=str(mark.kwargs.get("instead", "")))
        return None


def name_of(item: pytest.Item) -> str:
    """The node id; a file outside of the root folder has its name in place of the path."""
    return item.path.name + item.nodeid if item.nodeid.startswith("::") else item.nodeid


def _line(item: pytest.Item) -> int | None:
    line = item.location[1]
    return None if line is None else line + 1


def _told(item: pytest.Item) -> dict[str, str]:
    """What the test recorded itself."""
    recorded = [(_text(name, str), value) for name, value in item.user_properties]
    return {name: _text(value, str) for name, value in recorded if not name.startswith(OURS)}


def _parameters(item: pytest.Item) -> dict[str, Parameter]:
    """What ``parametrize`` gave the test, as far as it can be written down."""
    call = getattr(item, "callspec", None)
    return {} if call is None else {name: _plain(value) for name, value in call.params.items()}


def _plain(value: object) -> Parameter:
    """As JSON has it and gives it back; the ``repr`` of all else."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral) and abs(int(value)) <= _EXACT:
        return int(value)
    if isinstance(value, numbers.Real):
        with contextlib.suppress(OverflowError):  # a whole number may be larger than any float
            if math.isfinite(value):
                return float(value)
    return _text(value, repr)


def _text(value: object, write: Callable[[object], str]) -> str:
    """As every encoding has it, and not too long; what is no text is written without addresses."""
    try:
        if isinstance(value, str):
            text = str.__str__(value)
        else:
            text = re.sub(" at 0x[0-9A-Fa-f]+", "", write(value)[:_LONGEST])
    except Exception:  # noqa: BLE001 - somebody else's; a report must not fail for it
        text = type(value).__name__
    return text[:_LONGEST].encode(errors="backslashreplace").decode()


def _outcome(report: pytest.TestReport, call: pytest.CallInfo[None]) -> tuple[str, str | None]:
    """Pytest's word for how a test ended, and why."""
    if hasattr(report, "wasxfail"):
        return ("xfailed" if report.skipped else "xpassed"), str(report.wasxfail) or None
    if report.skipped and isinstance(report.longrepr, tuple):
        return "skipped", report.longrepr[2].removeprefix("Skipped: ")
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)  # of a traceback: how it ends
        lines = (report.longreprtext if crash is None else str(crash.message)).strip().splitlines()
        return ("failed" if call.when == "call" else "error"), (lines[0] if lines else None)
    return report.outcome, None
