"""Which of pytest's hooks do we answer? Each hands over in a line or two.

Without ``--llmperf`` nothing of the package is imported but this file, options, markers, limits and
fixtures, and, for tests that use them, what checks their markers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf import fixtures, hookspecs, markers, options
from pytest_llmperf.fixtures import compare, hardware, load_model, measure

if TYPE_CHECKING:
    from pytest_llmperf.run import Run

__all__ = ["compare", "hardware", "load_model", "measure"]

RUN: pytest.StashKey[Run] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that other plugins may answer."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; with ``--llmperf``, begin a run."""
    for line in markers.MARKER_LINES:
        config.addinivalue_line("markers", line)
    _meet_backends(config)
    try:
        settings = options.read_settings(config)
    except options.BadOption as error:
        raise pytest.UsageError(str(error)) from None
    if settings.enabled:
        from pytest_llmperf import run as measuring

        if settings.suite is not None:
            for line in markers.SUITE_MARKER_LINES:
                config.addinivalue_line("markers", line)
        run = measuring.Run.begin(config, settings)
        config.stash[RUN] = run
        config.pluginmanager.register(run, "llmperf-run")
    elif config.getoption("llmperf_suite") is not None:
        raise pytest.UsageError("--llmperf-suite measures: add --llmperf")
    elif config.getoption("llmperf_record") is not None:
        raise pytest.UsageError("--llmperf-record keeps what was measured: add --llmperf")


def _meet_backends(config: pytest.Config) -> None:
    """Make those of other plugins known. Raises UsageError."""
    if not config.hook.pytest_llmperf_backends.get_hookimpls():
        return
    from pytest_llmperf.backends import BackendError, register

    for adapters in config.hook.pytest_llmperf_backends():
        try:
            register(adapters)
        except BackendError as error:
            raise pytest.UsageError(f"pytest_llmperf_backends: {error}") from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Check the markers of a test that uses our fixtures, while it is collected."""
    definition: Any = metafunc.definition
    if markers.is_ours(definition):
        try:
            markers.check_markers(definition.nodeid, definition.iter_markers())
        except markers.BadMarker as error:
            raise definition.parent.CollectError(str(error)) from None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check what parameters and unittest classes mark; without ``--llmperf``, skip our tests."""
    mistakes = []
    for item in filter(markers.is_ours, items):
        try:
            markers.check_markers(item.nodeid, item.iter_markers())
        except markers.BadMarker as error:
            mistakes.append(str(error))
        if RUN not in config.stash:
            item.add_marker(pytest.mark.skip(reason=fixtures.SKIPPED_OFF))
    if mistakes:
        raise pytest.UsageError("\n".join(mistakes))


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
