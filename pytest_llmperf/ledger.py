"""What did this run find, and where is it written down? Baselines, history, a file of results."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import shlex
from collections.abc import Callable
from pathlib import Path

import msgspec

from pytest_llmperf.gate.baseline import BaselineError
from pytest_llmperf.gate.gatekeeper import Gatekeeper
from pytest_llmperf.gate.pair import PairResult
from pytest_llmperf.gate.recording import Accepted, Act, record
from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.options import Settings
from pytest_llmperf.provenance import act_of_this_run
from pytest_llmperf.remember import OFF, remember
from pytest_llmperf.report import words
from pytest_llmperf.report.annotations import annotate
from pytest_llmperf.report.github import Untold, append_summary
from pytest_llmperf.report.merged import merge
from pytest_llmperf.report.result import (
    FORMAT,
    VERSION,
    JudgedTest,
    RunResult,
    valid_pairs,
    write_json,
)

_TOOL_FAILED = 4
_SHOWN_ORPHANS = 5


class Ledger:
    """The results of all tests, as the process that reports gathers them."""

    def __init__(self, settings: Settings, hardware: Hardware, root: Path) -> None:
        """``root``: the folder whose commit is measured."""
        self._settings = settings
        self._hardware = hardware
        self._root = root
        self._texts: dict[str, str] = {}
        """Node id → the test's result as JSON, which takes a tenth of the objects' memory."""
        self.shifts: list[SuiteShift] = []
        """All pairs together, one verdict for each fingerprint."""
        self.notes: list[str] = []
        """What went wrong beside the tests."""
        self.interrupted = False
        """Whether the run ended before all of its tests had run."""
        self.selected: int | None = None
        """How many tests there were to run."""
        self.exit_status = 0
        """What the run ends with, as far as it has come."""
        self.annotations: list[str] = []
        """Commands for the log of a job of GitHub Actions."""
        self.written: list[str] = []
        """What was written where, in words."""

    def add(self, nodeid: str, text: str) -> None:
        """Take in the result of one test; one that ran again replaces its earlier one."""
        self._texts[nodeid] = text

    @property
    def tests(self) -> list[JudgedTest]:
        """In the order in which they ended."""
        return [msgspec.json.decode(text, type=JudgedTest) for text in self._texts.values()]

    @property
    def has_measured(self) -> bool:
        """Whether any test measured anything."""
        return any(test.measurements or test.comparisons for test in self.tests)

    @property
    def _pairs(self) -> list[PairResult]:
        return valid_pairs(self.tests)

    @functools.cached_property
    def _act(self) -> Act:
        return act_of_this_run(self._settings, self._root)

    def judge_suite(self, gatekeeper: Gatekeeper) -> list[SuiteShift]:
        """All tests together; nothing, and a note, where the baselines cannot be read."""
        try:
            self.shifts = gatekeeper.suite(self._pairs)
        except BaselineError as error:
            self.notes.append(f"suite shift: {error}")
        return self.shifts

    def note_interruption(self, selected: int) -> None:
        """Somebody ended the run early: what is written down is not whole, and says so."""
        self.interrupted = True
        told = f"interrupted: {len(self._texts)} of {selected} tests have a result"
        self.notes.append(f"the run was {told if selected else 'over before it had a test'}")

    def note_orphans(self, gone: list[str]) -> None:
        """Name baselines whose tests are gone, and what forgets them."""
        red = "red under --llmperf-strict: " if self._settings.strict else ""
        for each in gone[:_SHOWN_ORPHANS]:
            forget = f"pytest-llmperf baseline prune --test {shlex.quote(each)}"
            self.notes.append(f"{red}a baseline has no test any more: {each} ({forget})")
        if len(gone) > _SHOWN_ORPHANS:
            more = len(gone) - _SHOWN_ORPHANS
            self.notes.append(f"and {more} more: pytest-llmperf baseline prune --missing FILE")

    def write(self, wall_s: float) -> None:
        """Write down what the options ask for.

        A run that was asked to write baselines or results and cannot is an error of its own, that
        whatever is written later tells; the history is only for trends.
        """
        accepted = self._record() if self._settings.records else []
        if self.has_measured and self._settings.history != OFF:
            self._remember(accepted, wall_s)
        if self._settings.html is not None:
            self._write_file("--llmperf-html", self._settings.html, self._write_page)
        if self._settings.json is not None:
            self._write_file("--llmperf-json", self._settings.json, self._write_json)
        if self._settings.github:
            self._tell_github()

    def _record(self) -> list[Accepted]:
        """Add this run to the baselines; what was accepted as the new normal."""
        try:
            accepted = record(self._settings.baselines, self._pairs, self._act, self.shifts)
        except BaselineError as error:
            self.notes.append(f"baselines: {error}")
            self.exit_status = _TOOL_FAILED
            return []
        self.written += self._recorded(len(accepted))
        return accepted

    def _remember(self, accepted: list[Accepted], wall_s: float) -> None:
        trouble = remember(
            self._settings.history,
            self.result(),
            self._act,
            accepted,
            wall_s=wall_s,
            exit_status=self.exit_status,
        )
        if trouble is not None:
            self.notes.append(f"history: {trouble}")

    def _write_file(self, option: str, path: Path, write: Callable[[Path], None]) -> None:
        try:
            write(path)
            self.written.append(f"written: {path}")
        except OSError as error:
            self.notes.append(f"{option}: nothing was written: {error}")
            self.exit_status = _TOOL_FAILED

    def _write_json(self, path: Path) -> None:
        """Raises OSError."""
        write_json(self.result(), path)

    def _write_page(self, path: Path) -> None:
        """With the history's sessions where there is a history. Raises OSError."""
        # Not at the top: most runs write no page.
        from pytest_llmperf.report.html.sessions import past_in
        from pytest_llmperf.report.html.writing import write_html

        machines = merge({"this run": self.result()})
        if self.has_measured and self._settings.history != OFF:
            from pytest_llmperf.history import HistoryError

            try:
                with past_in(self._settings.history) as past:
                    return write_html(machines, path, past)
            except HistoryError as error:
                self.notes.append(f"--llmperf-html: without the history: {error}")
        write_html(machines, path)
        return None

    def _tell_github(self) -> None:
        """A page that cannot be written is told of, and changes no verdict."""
        machines = merge({"this run": self.result()})
        trouble = ""
        try:
            append_summary(machines)
        except Untold as error:
            trouble = str(error)
            self.notes.append(trouble)
        self.annotations = [str(each) for each in annotate(machines, trouble)]

    def _recorded(self, accepted: int) -> list[str]:
        what = words.count(len(self._pairs), "pair")
        new = f", {accepted} accepted as the new normal" if accepted else ""
        lines = [f"recorded: {what} in {short(self._settings.baselines)}{new}"]
        if self._settings.accept is not None and not accepted:
            lines.append("accepted: nothing, no pair got slower or faster for certain")
        return lines

    def result(self) -> RunResult:
        """Everything this run came to."""
        return RunResult(
            format=FORMAT,
            version=VERSION,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            llmperf=importlib.metadata.version("pytest-llmperf"),
            strict=self._settings.strict,
            hardware=self._hardware,
            tests=self.tests,
            suite_shifts=self.shifts,
            notes=self.notes,
            interrupted=self.interrupted,
            selected=self.selected,
            exit_status=self.exit_status,
        )


def short(path: Path) -> str:
    """As seen from the working directory, where it lies below that."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
