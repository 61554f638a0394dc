"""Can another package bring a backend, by a hook or an entry point, and prove it?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llmperf.backends import BackendError, UnknownBackend, find_backend, register, registry
from tests.docs.blocks import BLOCKS
from tests.plugin.conftest import Run


def shown(beginning: str) -> str:
    """What docs/backends.md shows, by how it begins."""
    (text,) = (
        block.text
        for block in BLOCKS
        if block.page == "docs/backends.md" and block.text.startswith(beginning)
    )
    return text


HOOK = shown("def pytest_llmperf_backends")
PROVING = shown("from pytest_llmperf.contract")
MEASURING = """
import pytest

@pytest.mark.perf(min_tps=10)
def test_it(load_model, measure):
    model = load_model("any", backend="counting", step_ms=2.0)
    result = measure(model, prompt_tokens=8, new_tokens=8)
    assert 100 < result.decode_tps.median < 500
"""


def example() -> str:
    """The backend that docs/backends.md shows."""
    return shown("# counting_backend.py")


@pytest.fixture
def folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on PYTHONPATH with the example; what a run registers is forgotten after it."""
    monkeypatch.setattr(registry, "_registered", {})
    pytester.makepyfile(counting_backend=example())
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=":")
    monkeypatch.syspath_prepend(pytester.path)
    yield pytester.path
    sys.modules.pop("counting_backend", None)


def test_the_example_has_forty_lines() -> None:
    lines = [line for line in example().splitlines() if line.strip()]
    assert len(lines) <= 40


def test_a_hook_brings_a_backend_that_is_measured_like_ours(
    llmperf: Run, pytester: pytest.Pytester, folder: Path
) -> None:
    pytester.makeconftest(HOOK)
    result = llmperf(MEASURING)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*counting*"])


def test_an_entry_point_brings_one_too(
    llmperf: Run, pytester: pytest.Pytester, folder: Path
) -> None:
    package = folder / "counting_backend-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: counting-backend\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        "[pytest_llmperf.backends]\ncounting = counting_backend:Counting\n"
    )
    llmperf(MEASURING).assert_outcomes(passed=1)


def test_the_contract_suite_proves_it(pytester: pytest.Pytester, folder: Path) -> None:
    pytester.makeconftest(HOOK)
    pytester.makepyfile(PROVING)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q")
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) == outcomes.get("errors", 0) == 0, result.outlines
    assert outcomes["passed"] >= 15


def test_the_contract_suite_finds_one_that_miscounts(
    pytester: pytest.Pytester, folder: Path
) -> None:
    wrong = example().replace("range(request.new_tokens)", "range(request.new_tokens - 1)")
    pytester.makepyfile(counting_backend=wrong)
    pytester.makeconftest(HOOK)
    pytester.makepyfile(PROVING)
    result = pytester.runpytest_subprocess("-q", "-k", "exactly")
    assert result.parseoutcomes()["failed"] == 4


def meet(adapters: dict[str, str]) -> None:
    register(adapters)
    find_backend("mine")


@pytest.mark.parametrize(
    ("adapters", "words"),
    [
        ({"vllm": "mine:Vllm"}, "backend 'vllm' is pytest_llmperf.backends.vllm:Vllm already"),
        ({"mine": "no_such_module:Mine"}, "backend no_such_module:Mine cannot be made: No module"),
        ({"mine": "json:Mine"}, "has no attribute 'Mine'"),
        ({"mine": "json:JSONDecoder"}, "is none: it has no name, distribution, install"),
        ({"mine": "pytest_llmperf.backends.fake:Fake"}, "which calls itself 'fake'"),
    ],
)
def test_one_that_cannot_be_is_refused_by_name(
    adapters: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    with pytest.raises(BackendError) as caught:
        meet(adapters)
    assert words in str(caught.value)


def test_a_bad_hook_stops_the_run_before_it_measures(
    llmperf: Run, pytester: pytest.Pytester, folder: Path
) -> None:
    pytester.makeconftest("def pytest_llmperf_backends():\n    return {'fake': 'mine:Fake'}\n")
    result = llmperf("def test_it(): pass")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*pytest_llmperf_backends: backend 'fake' is*already*"])


def test_a_name_that_nobody_has_lists_the_registered_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {"counting": "a:B"})
    with pytest.raises(UnknownBackend, match="did you mean 'counting'"):
        find_backend("countin")
