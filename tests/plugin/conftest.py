"""A small project whose engine is scripted, so that whole runs take a second."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scipy.special  # noqa: F401 - before pytester first remembers which modules there are

import pytest_llmperf.run  # noqa: F401 - before pytester first remembers which modules there are

Run = Callable[..., pytest.RunResult]
Session = Callable[..., pytest.RunResult]

TEST = """
@pytest.mark.perf(max_regression="3%")
def test_chat(load_model, measure):
    measure(load(load_model, noise_cv=0.002, pace_file="pace"))
"""

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


@pytest.fixture
def session(llmperf: Run, pytester: pytest.Pytester) -> Session:
    """One run of an engine at this pace: of the first worker, and of each fresh one."""

    def run(*arguments: str, pace: str = "1", source: str = TEST) -> pytest.RunResult:
        (pytester.path / "pace").write_text(pace)
        return llmperf(source, *arguments)

    return run


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the baselines of ten sessions are kept from test to test."""
    return tmp_path_factory.mktemp("kept") / "baselines"


@pytest.fixture
def history(session: Session, pytester: pytest.Pytester, kept: Path) -> None:
    """Ten sessions that differ a little."""
    if kept.exists():
        shutil.copytree(kept, pytester.path / "baselines")
        return
    for pace in (1.0, 1.004, 0.997, 1.002, 0.996, 1.003, 0.999, 1.001, 0.998, 1.0):
        assert session("--llmperf-record", pace=str(pace)).ret == 0
    shutil.copytree(pytester.path / "baselines", kept)


def lines(root: Path, kind: str) -> list[dict[str, Any]]:
    (path,) = root.glob("baselines/*/test_it.py.jsonl")
    told = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    return [line for line in told if line["kind"] == kind]
