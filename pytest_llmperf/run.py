"""What does ``--llmperf`` add to a pytest run? The hooks of a run that measures.

Registered only then, so that a suite which does not measure pays for none of this.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import itertools
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pytest_llmperf import markers, xdist
from pytest_llmperf.fixtures import SESSION, TEST_RUN
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.hardware.requirement import Requirement, unmet
from pytest_llmperf.options import Settings
from pytest_llmperf.report import words
from pytest_llmperf.report.closing import closing_lines
from pytest_llmperf.report.failure import failure_text
from pytest_llmperf.report.junit import properties
from pytest_llmperf.report.progress import Progress
from pytest_llmperf.report.result import (
    FORMAT,
    VERSION,
    JudgedMeasurement,
    JudgedTest,
    RunResult,
    overall,
    write_json,
)
from pytest_llmperf.report.table import table_text
from pytest_llmperf.session import NotRequired, PerfError, RunningTest, Session, start_line
from pytest_llmperf.suites import UnknownSuite, suite_paths

KEPT_RUNS = 20
_NOTHING_MEASURED = 5
JUDGED = pytest.StashKey[list[JudgedMeasurement]]()


class Run:
    """The hooks of one measuring pytest process: controller, xdist worker, or both in one."""

    def __init__(
        self, config: pytest.Config, settings: Settings, hardware: Hardware, folder: Path
    ) -> None:
        self._config = config
        self._settings = settings
        self._hardware = hardware
        self.folder = folder
        self._tests: dict[str, JudgedTest] = {}
        self._notes: list[str] = []
        self.session = Session(settings, folder, Progress(config), hardware)
        config.stash[SESSION] = self.session

    @classmethod
    def begin(cls, config: pytest.Config, settings: Settings) -> Run:
        """Look at the machine, find the suite, make the run's folder. Raises UsageError."""
        hardware = detect()
        if settings.require == "gpu":
            lacking = unmet(Requirement(gpu=True), hardware)
            if lacking is not None:
                raise pytest.UsageError(f"--llmperf-require=gpu: {lacking}")
        if settings.suite is not None:
            _collect_suite(config, settings.suite)
        folder = xdist.folder_from_controller(config) or _new_folder(config)
        folder.mkdir(parents=True, exist_ok=True)
        if xdist.is_controller(config):
            config.pluginmanager.register(xdist.TellFolder(folder))
        return cls(config, settings, hardware, folder)

    # -- collection ------------------------------------------------------------------------

    def pytest_report_header(self) -> list[str]:
        """Name the machine, what is wrong with it, and where the workers' logs go."""
        return [
            f"llmperf: {words.machine(self._hardware)}",
            *(f"llmperf: {finding}" for finding in self._hardware.findings),
            f"llmperf logs: {_short(self.folder)}",
        ]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Nobody re-runs a gate until it is green."""
        if self._config.pluginmanager.hasplugin("rerunfailures"):
            for item in filter(_is_ours, items):
                item.add_marker(pytest.mark.flaky(reruns=0))

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> str:
        """Say what is coming and how long it may take."""
        return start_line(sum(map(_is_ours, items)), self._settings)

    # -- one test --------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Read the test's markers; skip what this machine is not made for."""
        if not _is_ours(item):
            return
        try:
            limits = markers.read_perf(item.nodeid, item.iter_markers("perf"))
            requirement = markers.read_requires(item.nodeid, item.iter_markers("requires"))
        except markers.BadMarker as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        run = self.session.test(item.nodeid, limits)
        item.stash[TEST_RUN] = run
        try:
            run.check_requirement(requirement)
        except NotRequired as error:
            raise pytest.skip.Exception(f"requires: {error}") from None
        except PerfError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Judge after the body returned; whatever it raised goes through untouched."""
        run = item.stash.get(TEST_RUN, None)
        if run is None:
            return (yield)
        try:
            outcome = yield
        except Exception:
            self._show_unfinished(item, run)
            raise
        except pytest.fail.Exception:
            self._show_unfinished(item, run)
            raise
        try:
            item.stash[JUDGED] = run.judge()
        except PerfError as error:
            text = f"while a value near its limit was confirmed: {error}"
            raise pytest.fail.Exception(text, pytrace=False) from None
        item.user_properties += properties(item.stash[JUDGED])
        self._fail_if_red(item.stash[JUDGED])
        return outcome

    def _show_unfinished(self, item: pytest.Item, run: RunningTest) -> None:
        """The body raised: its numbers become a section of the report, not a verdict."""
        item.stash[JUDGED] = run.judge(may_confirm=False)
        for judged in item.stash[JUDGED]:
            lines = [
                words.labelled(name, quantity.median)
                for name, quantity in judged.measurement.metrics.items()
            ]
            text = f"{judged.verdict} (the test's body raised)\n" + "\n".join(lines)
            item.add_report_section("call", "llmperf", text)

    def _fail_if_red(self, judged: list[JudgedMeasurement]) -> None:
        strict = self._settings.strict
        if any(each.verdict.fails(strict=strict) for each in judged):
            pytest.fail(failure_text(judged, self._hardware, strict=strict), pytrace=False)

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Keep only the worker that the next test may want."""
        run = item.stash.get(TEST_RUN, None)
        if run is not None:
            run.end()

    def attach(
        self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> None:
        """Put a test's result on its report, as builtin types only."""
        if TEST_RUN not in item.stash or (call.when != "call" and report.passed):
            return
        judged = item.stash.get(JUDGED, [])
        result = JudgedTest(
            test=item.nodeid,
            outcome="error" if report.failed and call.when != "call" else report.outcome,
            verdict=overall(judged),
            measurements=judged,
            reason=_reason(report),
        )
        report.llmperf = msgspec.to_builtins(result)  # type: ignore[attr-defined] # extra attributes of reports survive xdist
        report.llmperf_verdict = str(result.verdict or "")  # type: ignore[attr-defined] # as above

    # -- the whole run ---------------------------------------------------------------------

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather results, from this process or from xdist's workers."""
        found = getattr(report, "llmperf", None)
        if found is not None:
            result = msgspec.convert(found, JudgedTest)
            self._tests[result.test] = result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """An xdist worker is done: take over what it noticed."""
        self._notes += getattr(node, "workeroutput", {}).get("llmperf_notes", [])

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """End the workers, write the JSON file, and let an unmeasured run not pass for a green."""
        self.session.close()
        self._notes += self.session.pool.bad_exits
        if xdist.is_worker(self._config):
            self._config.workeroutput["llmperf_notes"] = self._notes  # type: ignore[attr-defined] # set by xdist
            return (yield)
        measured = any(test.measurements for test in self._tests.values())
        if not measured and session.exitstatus in {pytest.ExitCode.OK, _NOTHING_MEASURED}:
            session.exitstatus = 1 if self._settings.strict else _NOTHING_MEASURED
        if self._settings.json is not None:
            try:
                write_json(self.result(), self._settings.json)
            except OSError as error:
                self._notes.append(f"--llmperf-json: nothing was written: {error}")
                session.exitstatus = 4
        return (yield)

    def result(self) -> RunResult:
        """Everything this run came to."""
        return RunResult(
            format=FORMAT,
            version=VERSION,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            llmperf=importlib.metadata.version("pytest-llmperf"),
            strict=self._settings.strict,
            hardware=self._hardware,
            tests=list(self._tests.values()),
            notes=self._notes,
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table, what went wrong beside the tests, and the closing line."""
        writer = terminalreporter._tw
        tests = list(self._tests.values())
        terminalreporter.section("llmperf")
        if any(test.measurements for test in tests):
            terminalreporter.write_line(table_text(tests, writer.fullwidth, color=writer.hasmarkup))
        for note in self._notes:
            terminalreporter.write_line(f"note: {note}", yellow=True)
        for line in closing_lines(tests):
            terminalreporter.write_line(line)
        if self._settings.json is not None and self._settings.json.exists():
            terminalreporter.write_line(f"written: {self._settings.json}")

    def pytest_unconfigure(self) -> None:
        """Whatever happened before, no worker outlives the run."""
        self.session.close()


def _is_ours(item: pytest.Item) -> bool:
    info = getattr(item, "_fixtureinfo", None)
    return info is not None and markers.uses_our_fixtures(info.name2fixturedefs)


def _reason(report: pytest.TestReport) -> str | None:
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    if report.failed:
        lines = report.longreprtext.strip().splitlines()
        return lines[0] if lines else None
    return None


def _collect_suite(config: pytest.Config, name: str) -> None:
    """Run the suite beside the paths given, or instead of the configured ones when none are."""
    try:
        paths = [str(path) for path in suite_paths(name)]
    except UnknownSuite as error:
        raise pytest.UsageError(f"--llmperf-suite: {error}") from None
    given = config.args_source == pytest.Config.ArgsSource.ARGS
    config.args[:] = [*config.args, *paths] if given else paths


def _new_folder(config: pytest.Config) -> Path:
    """A folder for this run's logs: in pytest's cache, or a temporary one without it."""
    cache = getattr(config, "cache", None)
    if cache is None:
        return Path(tempfile.mkdtemp(prefix="pytest-llmperf-"))
    runs: Path = cache.mkdir("llmperf-runs")
    old = sorted(path for path in runs.iterdir() if path.is_dir())
    for path in itertools.islice(old, max(0, len(old) - KEPT_RUNS + 1)):
        shutil.rmtree(path, ignore_errors=True)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
    return runs / f"{stamp}-{os.getpid()}"


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
