"""A small project whose engine is scripted, so that whole runs take a second."""

from collections.abc import Callable

import pytest
import scipy.special  # noqa: F401 - before pytester first remembers which modules there are

import pytest_llmperf.run  # noqa: F401 - before pytester first remembers which modules there are

Run = Callable[..., pytest.RunResult]

PREAMBLE = """
import pytest

def load(load_model, **script):
    return load_model("fake:model", backend="fake", **script)
"""


@pytest.fixture(autouse=True)
def no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests measure is not worth remembering."""
    monkeypatch.setenv("LLMPERF_HISTORY", "off")


@pytest.fixture
def llmperf(pytester: pytest.Pytester) -> Run:
    """Write a test module and run pytest on it: measuring unless ``off``, or ``apart`` from us."""

    def run(
        source: str, *arguments: str, off: bool = False, apart: bool = False
    ) -> pytest.RunResult:
        pytester.makepyfile(test_it=PREAMBLE + source)
        switch = () if off else ("--llmperf",)
        start = pytester.runpytest_subprocess if apart else pytester.runpytest_inprocess
        return start(*switch, *arguments)

    return run
