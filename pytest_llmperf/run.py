"""What does ``--llmperf`` add to a pytest run? The hooks of a run that measures.

Registered only then, so that a suite which does not measure pays for none of this.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf import markers, xdist
from pytest_llmperf.fixtures import SESSION
from pytest_llmperf.gate.baseline import BaselineError
from pytest_llmperf.gate.pair import split_nodeid
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.hardware.requirement import Requirement, unmet
from pytest_llmperf.hardware.visible import in_sight
from pytest_llmperf.judging import Judging, name_of
from pytest_llmperf.ledger import Ledger, short
from pytest_llmperf.models.cache import cache_root
from pytest_llmperf.models.pruning import model_bytes
from pytest_llmperf.options import Settings
from pytest_llmperf.report import words
from pytest_llmperf.report.claims import claim_lines
from pytest_llmperf.report.closing import closing_lines
from pytest_llmperf.report.comparison import comparison_line
from pytest_llmperf.report.github import hushed, is_job
from pytest_llmperf.report.progress import Progress
from pytest_llmperf.report.sweep import sweep_lines
from pytest_llmperf.report.table import table_text
from pytest_llmperf.report.tradeoff import tradeoff_lines
from pytest_llmperf.session import Session, start_line
from pytest_llmperf.suite_files import UnknownSuite, suite_paths
from pytest_llmperf.suite_report import tell

KEPT_RUNS = 20
_NOTHING_MEASURED = 5
_PARTIAL = ("lf", "stepwise")


class Run:
    """The hooks of one measuring pytest process: controller, xdist worker, or both in one."""

    def __init__(
        self, config: pytest.Config, settings: Settings, hardware: Hardware, folder: Path
    ) -> None:
        self._config = config
        self._settings = settings
        self._hardware = hardware
        self.folder = folder
        self.ledger = Ledger(settings, hardware, config.rootpath)
        self._collected: dict[str, set[str]] = {}
        """Module → its tests, before any was deselected."""
        self._began = time.monotonic()
        is_reported_elsewhere = xdist.is_worker(config)
        self._cache_began_bytes = 0 if is_reported_elsewhere else model_bytes(cache_root())
        self.session = Session(settings, folder, Progress(config), hardware)
        config.stash[SESSION] = self.session
        config.pluginmanager.register(Judging(self.session, config.rootpath), "llmperf-judging")

    @classmethod
    def begin(cls, config: pytest.Config, settings: Settings) -> Run:
        """Look at the machine, find the suite, make the run's folder. Raises UsageError."""
        hardware = detect()
        settings = dataclasses.replace(settings, baselines=config.rootpath / settings.baselines)
        if settings.require == "gpu":
            lacking = unmet(Requirement(gpu=True), in_sight(hardware, os.environ))
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
            f"llmperf logs: {short(self.folder)}",
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
            self.ledger.add(report.nodeid, found)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """When all tests have run, judge them together; what fails then counts as a test."""
        outcome = yield
        if not (xdist.is_worker(self._config) or self._config.option.collectonly):
            shifts = self.ledger.judge_suite(self.session.gatekeeper)
            tell(self._config, shifts, strict=self._settings.strict)
        return outcome

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """An xdist worker is done: take over what it noticed, and what there was to run."""
        told = getattr(node, "workeroutput", {})
        self.ledger.notes += told.get("llmperf_notes", [])
        for module, tests in told.get("llmperf_collected", {}).items():
            self._collected.setdefault(module, set()).update(tests)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """End the workers, write the JSON file, and let an unmeasured run not pass for a green."""
        self.session.close()
        self.ledger.notes += self.session.pool.bad_exits
        if xdist.is_worker(self._config):
            output = self._config.workeroutput  # type: ignore[attr-defined] # set by xdist
            output["llmperf_notes"] = self.ledger.notes
            output["llmperf_collected"] = {
                module: list(tests) for module, tests in self._collected.items()
            }
            return (yield)
        if self._config.option.collectonly:
            return (yield)
        measured = self.ledger.has_measured
        if not measured and session.exitstatus in {pytest.ExitCode.OK, _NOTHING_MEASURED}:
            session.exitstatus = 1 if self._settings.strict else _NOTHING_MEASURED
        if session.exitstatus == pytest.ExitCode.INTERRUPTED:
            self.ledger.note_interruption(session.testscollected)
        self._tell_orphans(session)
        self.ledger.selected = session.testscollected
        self.ledger.exit_status = int(session.exitstatus)
        self.ledger.write(time.monotonic() - self._began)
        session.exitstatus = self.ledger.exit_status
        return (yield)

    def _tell_orphans(self, session: pytest.Session) -> None:
        """Name the baselines whose tests are gone; under ``--llmperf-strict`` they fail."""
        if any("::" in argument for argument in self._config.args):
            return  # a part of a module was asked for
        if any(self._config.getoption(name, False) for name in _PARTIAL):
            return  # they leave tests out while a module is collected
        fingerprints = {self._hardware.fingerprint, self._hardware.cpu_fingerprint}
        try:
            gone = self.session.gatekeeper.orphans(self._collected, fingerprints)
        except BaselineError:
            return  # told where it was needed
        self.ledger.note_orphans(gone)
        if gone and self._settings.strict and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table, what went wrong beside the tests, the closing line, and GitHub's remarks."""
        if self._config.option.collectonly or xdist.is_worker(self._config):
            return  # a worker is asked, too, and nobody reads what it writes
        terminalreporter.section("llmperf")
        with hushed(terminalreporter.write_line, is_read=self._settings.github or is_job()):
            self._tell(terminalreporter)
        for line in self.ledger.annotations:
            terminalreporter.write_line(line)

    def _tell(self, terminalreporter: pytest.TerminalReporter) -> None:
        writer = terminalreporter._tw
        tests = self.ledger.tests
        if any(test.measurements for test in tests):
            terminalreporter.write_line(table_text(tests, writer.fullwidth, color=writer.hasmarkup))
        for test in tests:
            for each in test.comparisons:
                terminalreporter.write_line(comparison_line(each, test.test))
        for line in (*sweep_lines(tests), *tradeoff_lines(tests), *claim_lines(tests)):
            terminalreporter.write_line(line)
        for note in self.ledger.notes:
            terminalreporter.write_line(f"note: {note}", yellow=True)
        for line in closing_lines(tests, self.ledger.shifts):
            terminalreporter.write_line(line)
        for line in (*self.ledger.written, *self._cache_line()):
            terminalreporter.write_line(line)

    def _cache_line(self) -> list[str]:
        """What the models of a suite, or those that were built for a test, take on the disk."""
        size = model_bytes(cache_root())
        grown = size - self._cache_began_bytes
        if self._settings.suite is None and grown <= 0:
            return []
        more = f", {words.size(grown)} more than before" if grown > 0 else ""
        return [f"cache {words.size(size)} of models{more} (pytest-llmperf cache)"]

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
        folder = Path(tempfile.mkdtemp(prefix="pytest-llmperf-"))
        config.pluginmanager.register(_Temporary(folder))
        return folder


class _Temporary:
    """Takes a folder away that nobody would look for: the run was green and named nothing in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_wanted = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that failed, or was expected to, may name the log of its worker."""
        self._is_wanted |= str(self._folder) in report.longreprtext

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Whoever looks into a red run reads the logs."""
        green = {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
        self._is_wanted |= session.exitstatus not in green

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """The workers are gone, and all notes are written."""
        run: Run | None = config.pluginmanager.get_plugin("llmperf-run")
        notes = [] if run is None else run.ledger.notes
        if not self._is_wanted and not any(str(self._folder) in note for note in notes):
            shutil.rmtree(self._folder, ignore_errors=True)


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
