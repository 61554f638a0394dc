"""Is a model for which there is no room skipped with the arithmetic, before anything starts?"""

import json
import sys
from pathlib import Path

import pytest

from tests.plugin.conftest import Run

TOO_LONG = """
def test_long(load_model, measure):
    measure(load_model("synthetic:llama-160m", backend="llama-cpp", n_ctx=100_000_000,
                       n_gpu_layers=0))
"""
LARGE = """
def test_large(load_model, measure):
    measure(load_model("synthetic:mistral-7b", backend="llama-cpp", quantization="Q8_0",
                       n_gpu_layers=0))
"""
ARITHMETIC = "*needs 3433.3 GB RAM or more (weights * + KV 3433.2 at 100000000 tokens), has *GB*"


def workers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("worker-*")]


def test_more_than_the_machine_has_is_skipped_with_the_arithmetic(
    llmperf: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPERF_CACHE", str(pytester.path / "cache"))
    result = llmperf(TOO_LONG, "-rs")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED  # nothing was measured
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines([f"SKIPPED*{ARITHMETIC}"])
    assert not workers(pytester.path)
    assert not list(pytester.path.rglob("*.gguf"))  # it was not built either


def test_under_strict_it_is_red(llmperf: Run) -> None:
    result = llmperf(TOO_LONG, "--llmperf-strict")
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"{ARITHMETIC}*would skip without --llmperf-strict*"])


def test_both_arms_of_a_comparison_are_asked(llmperf: Run) -> None:
    result = llmperf(
        """
def test_arms(compare):
    compare({"n_ctx": 512}, {"n_ctx": 100_000_000}, source="synthetic:llama-160m",
            backend="llama-cpp", n_gpu_layers=0)
""",
        "-rs",
    )
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines([f"SKIPPED*{ARITHMETIC}"])


@pytest.mark.skipif(sys.platform == "win32", reason="there is no ulimit")
def test_under_a_limit_it_is_refused_before_the_load(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPERF_CACHE", str(pytester.path / "cache"))
    pytester.makepyfile(test_it=LARGE)
    command = f"ulimit -v 4000000; exec {sys.executable} -m pytest --llmperf -rs"
    result = pytester.run("bash", "-c", command)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(
        ["SKIPPED*needs 7.* GB RAM or more (weights 7.2 + KV 0.2 at 2048 tokens), has 3.8 GB*"]
    )
    assert not workers(pytester.path)


@pytest.mark.engine
def test_what_was_expected_is_in_the_result(llmperf: Run, pytester: pytest.Pytester) -> None:
    result = llmperf(
        """
def test_small(load_model, measure):
    measure(load_model("synthetic:llama-15m", backend="llama-cpp"), prompt_tokens=64, new_tokens=8)
""",
        "--llmperf-json=result.json",
        apart=True,
    )
    assert result.ret == 0
    told = json.loads((pytester.path / "result.json").read_bytes())
    (measurement,) = [each["measurement"] for each in told["tests"][0]["measurements"]]
    expected = measurement["expected"]
    assert (expected["fit"], expected["reasons"]) == ("fits", [])
    assert expected["footprint"]["context_tokens"] == 2048
    (share,) = expected["footprint"]["shares"]
    assert share["cache"] == 6 * 2048 * 288 * 2 * 2
