"""Which of pytest's hooks do we answer? Each hands over in a line or two.

Without ``--llmperf`` nothing of the package is imported but this file, options, markers and
fixtures.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf import fixtures, markers, options
from pytest_llmperf.fixtures import hardware, load_model, measure

if TYPE_CHECKING:
    from pytest_llmperf.run import Run

__all__ = ["hardware", "load_model", "measure"]

RUN: pytest.StashKey[Run] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; with ``--llmperf``, begin a run."""
    for line in markers.MARKER_LINES:
        config.addinivalue_line("markers", line)
    try:
        settings = options.read_settings(config)
    except options.BadOption as error:
        raise pytest.UsageError(str(error)) from None
    if settings.enabled:
        from pytest_llmperf import run as measuring

        run = measuring.Run.begin(config, settings)
        config.stash[RUN] = run
        config.pluginmanager.register(run, "llmperf-run")
    elif settings.suite is not None:
        raise pytest.UsageError("--llmperf-suite measures: add --llmperf")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Check the markers of a test that uses our fixtures, while it is collected."""
    definition = metafunc.definition
    if markers.uses_our_fixtures(definition._fixtureinfo.name2fixturedefs):
        _check_markers(definition)


def _check_markers(definition: Any) -> None:
    marks = list(definition.iter_markers())
    for mark in definition.iter_markers("parametrize"):
        for case in mark.args[1] if len(mark.args) > 1 else ():
            marks += [each.mark if hasattr(each, "mark") else each
                      for each in getattr(case, "marks", ())]  # fmt: skip
    try:
        markers.check_markers(definition.nodeid, marks)
    except markers.BadMarker as error:
        raise definition.parent.CollectError(str(error)) from None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without ``--llmperf``, skip the tests that use our fixtures, and leave all others alone."""
    if RUN in config.stash:
        return
    for item in items:
        info = getattr(item, "_fixtureinfo", None)
        if info is not None and markers.uses_our_fixtures(info.name2fixturedefs):
            item.add_marker(pytest.mark.skip(reason=fixtures.SKIPPED_OFF))


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, str] | None:
    """A passed test that nothing could be decided about has a letter of its own."""
    if getattr(report, "when", None) != "call" or not report.passed:
        return None
    verdict = getattr(report, "llmperf_verdict", None)
    if verdict == "NO_BASELINE":
        return "without baseline", "N", "NO BASELINE"
    if verdict == "INCONCLUSIVE":
        return "inconclusive", "I", "INCONCLUSIVE"
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what a test measured on its report, which is all that crosses to xdist's controller."""
    report = yield
    if RUN in item.config.stash:
        item.config.stash[RUN].attach(item, call, report)
    return report
