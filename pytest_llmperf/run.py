"""What does ``--llmperf`` add to a pytest run? The hooks of a run that measures.

Registered only then, so that a suite which does not measure pays for none of this.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import importlib.metadata
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pytest_llmperf import markers, xdist
from pytest_llmperf.fixtures import SESSION
from pytest_llmperf.gate.baseline import BaselineError
from pytest_llmperf.gate.pair import PairResult, split_nodeid
from pytest_llmperf.gate.recording import Accepted, Act, record
from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.hardware.requirement import Requirement, unmet
from pytest_llmperf.judging import Judging, name_of
from pytest_llmperf.options import Settings
from pytest_llmperf.provenance import act_of_this_run
from pytest_llmperf.remember import OFF, remember
from pytest_llmperf.report import words
from pytest_llmperf.report.closing import closing_lines
from pytest_llmperf.report.comparison import comparison_line
from pytest_llmperf.report.progress import Progress
from pytest_llmperf.report.result import (
    FORMAT,
    VERSION,
    JudgedTest,
    RunResult,
    write_json,
)
from pytest_llmperf.report.table import table_text
from pytest_llmperf.session import Session, start_line
from pytest_llmperf.suite_files import UnknownSuite, suite_paths
from pytest_llmperf.suite_report import tell

KEPT_RUNS = 20
_NOTHING_MEASURED = 5
_SHOWN_ORPHANS = 5


class Run:
    """The hooks of one measuring pytest process: controller, xdist worker, or both in one."""

    def __init__(
        self, config: pytest.Config, settings: Settings, hardware: Hardware, folder: Path
    ) -> None:
        self._config = config
        self._settings = settings
        self._hardware = hardware
        self.folder = folder
        self._texts: dict[str, str] = {}
        """Node id → the test's result as JSON, which takes a tenth of the objects' memory."""
        self._notes: list[str] = []
        self._json_written = False
        self._collected: dict[str, set[str]] = {}
        """Module → its tests, before any was deselected."""
        self._shifts: list[SuiteShift] = []
        self._recorded = ""
        self._accepted: list[Accepted] = []
        self._began = time.monotonic()
        self.session = Session(settings, folder, Progress(config), hardware)
        config.stash[SESSION] = self.session
        config.pluginmanager.register(Judging(self.session), "llmperf-judging")

    @functools.cached_property
    def _act(self) -> Act:
        return act_of_this_run(self._settings, self._config.rootpath)

    @classmethod
    def begin(cls, config: pytest.Config, settings: Settings) -> Run:
        """Look at the machine, find the suite, make the run's folder. Raises UsageError."""
        hardware = detect()
        settings = dataclasses.replace(settings, baselines=config.rootpath / settings.baselines)
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

    def pytest_report_header(self) -> list[str]:
        """Name the machine, what is wrong with it, and where the workers' logs go."""
        return [
            f"llmperf: {words.machine(self._hardware)}",
            *(f"llmperf: {finding}" for finding in self._hardware.findings),
            f"llmperf logs: {_short(self.folder)}",
        ]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Nobody re-runs a gate until it is green; remember what there is before deselection."""
        for item in items:
            module, test = split_nodeid(name_of(item))
            self._collected.setdefault(module, set()).add(test)
        if self._config.pluginmanager.hasplugin("rerunfailures"):
            for item in filter(markers.is_ours, items):
                item.add_marker(pytest.mark.flaky(reruns=0), append=False)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """What is selected is known: the gate shares one false-alarm rate among all of it."""
        self.session.select([name_of(item) for item in session.items if markers.is_ours(item)])

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> str:
        """Say what is coming and how long it may take."""
        return start_line(sum(map(markers.is_ours, items)), self._settings)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather results, from this process or from xdist's workers."""
        if xdist.is_worker(self._config):
            return
        found = report.__dict__.pop("llmperf", None)  # pytest keeps every report
        if found is not None:
            self._texts[report.nodeid] = found

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """When all tests have run, judge them together; what fails then counts as a test."""
        outcome = yield
        if not (xdist.is_worker(self._config) or self._config.option.collectonly):
            try:
                self._shifts = self.session.gatekeeper.suite(self._pairs())
                tell(self._config, self._shifts, strict=self._settings.strict)
            except BaselineError as error:
                self._notes.append(f"suite shift: {error}")
        return outcome

    def _pairs(self) -> list[PairResult]:
        """Of all valid measurements."""
        return [
            pair
            for test in self._tests()
            for judged in test.measurements
            if judged.verdict is not Verdict.INVALID
            for pair in judged.pairs
        ]

    def _tests(self) -> list[JudgedTest]:
        return [msgspec.json.decode(text, type=JudgedTest) for text in self._texts.values()]

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
        if self._config.option.collectonly:
            return (yield)
        measured = any(test.measurements or test.comparisons for test in self._tests())
        if not measured and session.exitstatus in {pytest.ExitCode.OK, _NOTHING_MEASURED}:
            session.exitstatus = 1 if self._settings.strict else _NOTHING_MEASURED
        self._tell_orphans(session)
        if self._settings.records:
            self._record(session)
        if measured and self._settings.history != OFF:
            self._remember(session)
        if self._settings.json is not None:
            try:
                write_json(self.result(), self._settings.json)
                self._json_written = True
            except OSError as error:
                self._notes.append(f"--llmperf-json: nothing was written: {error}")
                session.exitstatus = 4
        return (yield)

    def _record(self, session: pytest.Session) -> None:
        """Write the baselines; a run that was asked to and cannot is an error of its own."""
        pairs = self._pairs()
        try:
            self._accepted = record(self._settings.baselines, pairs, self._act)
        except BaselineError as error:
            self._notes.append(f"baselines: {error}")
            session.exitstatus = 4
            return
        what = f"{len(pairs)} pair{'' if len(pairs) == 1 else 's'}"
        accepted = len(self._accepted)
        new = f", {accepted} accepted as the new normal" if accepted else ""
        self._recorded = f"recorded: {what} in {_short(self._settings.baselines)}{new}"

    def _tell_orphans(self, session: pytest.Session) -> None:
        """Name the baselines whose tests are gone; under ``--llmperf-strict`` they fail."""
        if any("::" in argument for argument in self._config.args):
            return  # a part of a module was asked for
        fingerprints = {self._hardware.fingerprint, self._hardware.cpu_fingerprint}
        try:
            gone = self.session.gatekeeper.orphans(self._collected, fingerprints)
        except BaselineError:
            return  # told where it was needed
        for nodeid in gone[:_SHOWN_ORPHANS]:
            self._notes.append(f"a baseline has no test any more: {nodeid}")
        if len(gone) > _SHOWN_ORPHANS:
            self._notes.append(f"and {len(gone) - _SHOWN_ORPHANS} more; see baseline prune")
        if gone and self._settings.strict and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = 1

    def _remember(self, session: pytest.Session) -> None:
        """Add the run to the history; a history that fails is a note and no more."""
        trouble = remember(
            self._settings.history,
            self.result(),
            self._act,
            self._accepted,
            wall_s=time.monotonic() - self._began,
            exit_status=int(session.exitstatus),
        )
        if trouble is not None:
            self._notes.append(f"history: {trouble}")

    def result(self) -> RunResult:
        """Everything this run came to."""
        return RunResult(
            format=FORMAT,
            version=VERSION,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            llmperf=importlib.metadata.version("pytest-llmperf"),
            strict=self._settings.strict,
            hardware=self._hardware,
            tests=self._tests(),
            suite_shifts=self._shifts,
            notes=self._notes,
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table, what went wrong beside the tests, and the closing line."""
        if self._config.option.collectonly:
            return
        writer = terminalreporter._tw
        tests = self._tests()
        terminalreporter.section("llmperf")
        if any(test.measurements for test in tests):
            terminalreporter.write_line(table_text(tests, writer.fullwidth, color=writer.hasmarkup))
        for test in tests:
            for each in test.comparisons:
                terminalreporter.write_line(comparison_line(each))
        for note in self._notes:
            terminalreporter.write_line(f"note: {note}", yellow=True)
        for line in closing_lines(tests):
            terminalreporter.write_line(line)
        if self._recorded:
            terminalreporter.write_line(self._recorded)
        if self._json_written:
            terminalreporter.write_line(f"written: {self._settings.json}")

    def pytest_unconfigure(self) -> None:
        """Whatever happened before, no worker outlives the run."""
        self.session.close()


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
    if config.option.collectonly:
        return Path(tempfile.gettempdir())
    try:
        return _new_folder_in_cache(config)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="pytest-llmperf-"))


def _new_folder_in_cache(config: pytest.Config) -> Path:
    """Raises OSError where pytest has no cache, or cannot write to it."""
    cache = getattr(config, "cache", None)
    if cache is None:
        raise FileNotFoundError("pytest runs without its cache")
    runs: Path = cache.mkdir("llmperf-runs")
    old = sorted(path for path in runs.iterdir() if path.is_dir())
    for path in itertools.islice(old, max(0, len(old) - KEPT_RUNS + 1)):
        shutil.rmtree(path, ignore_errors=True)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
    folder = runs / f"{stamp}-{os.getpid()}"
    folder.mkdir()
    return folder


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
