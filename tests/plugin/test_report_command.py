"""Does what a run wrote become a page for GitHub, with each test on its line?"""

from __future__ import annotations

import json

import pytest

from pytest_llmperf.cli import main
from tests.plugin.conftest import Run

TESTS = """
@pytest.mark.perf(min_tps=50)
def test_good(load_model, measure):
    measure(load(load_model), prompt_tokens=8, new_tokens=8)

@pytest.mark.perf(min_tps=5000)
@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>|"])
def test_bad(load_model, measure, name):
    measure(load(load_model), prompt_tokens=8, new_tokens=8)
"""


def test_a_red_test_is_annotated_where_it_begins(
    llmperf: Run,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    llmperf(TESTS, "--llmperf-json=out.json")
    told = json.loads((pytester.path / "out.json").read_text())
    lines = {
        test["test"].partition("::")[2].partition("[")[0]: test["line"] for test in told["tests"]
    }
    source = (pytester.path / "test_it.py").read_text().splitlines()
    assert source[lines["test_good"]].startswith("def test_good"), "its decorator comes first"
    capsys.readouterr()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    assert main(["report", "out.json", "--github"]) == 0
    (annotation,) = capsys.readouterr().out.splitlines()
    assert annotation.startswith(f"::error file=test_it.py,line={lines['test_bad']},title=llmperf")
    summary = (pytester.path / "summary.md").read_text()
    assert "1 of 2 tests red: 1 over budget, 1 passed" in summary.splitlines()[0]
    assert "<script" not in summary
