"""Are two arms measured in turns in fresh workers, and judged by the limits on their ratio?"""

from __future__ import annotations

import json

import pytest

from tests.plugin.conftest import Run

BOTH = 'source="fake:model", backend="fake", noise_cv=0.002, prompt_tokens=8, new_tokens=8'


def faster(*limits: str, a: float = 130.0, b: float = 100.0) -> str:
    """A test that compares two speeds."""
    return f"""
def test_arms(compare):
    found = compare({{"decode_tps": {a}}}, {{"decode_tps": {b}}}, {", ".join((BOTH, *limits))})
    assert found.low < found.ratio < found.high
"""


def test_a_ratio_is_told_with_its_interval(llmperf: Run) -> None:
    result = llmperf(faster())
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "test_it.py::test_arms: decode: A (decode_tps 130.0) is 1.30 × B (decode_tps",
            "  100.0)",
            "  1.2*–1.3* by 5 pairs; memory 1.00 ×",
            "llmperf: 0 measurements, 0 budgets judged, 1 comparison",
        ]
    )


def test_a_limit_that_is_kept_passes_with_no_more_pairs_than_it_takes(llmperf: Run) -> None:
    result = llmperf(faster("min_speedup=1.02", 'max_slowdown="5%"'))
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["* by [3-5] pairs; *", "*1 comparison: 1 passed"])


def test_a_limit_that_is_broken_is_red_with_the_ratio(llmperf: Run) -> None:
    result = llmperf(faster("min_speedup=2"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "perf comparison broken: A is 1.30 × B < min_speedup=2",
            "  ratio      decode 1.30, 1.2*–1.3* by 3 pairs; memory 1.00 ×",
            "  arms       A (decode_tps 130.0), B (decode_tps 100.0)",
            "  engine     fake 1, fake:model",
            "  machine    *",
            "  state      *steady",
        ]
    )


def test_a_limit_at_the_truth_is_undecided_and_red_under_strict(llmperf: Run) -> None:
    source = faster("min_speedup=1.3")
    result = llmperf(source)
    assert result.ret == 0
    said = "min_speedup=1.3: not decided by 10 pairs"
    result.stdout.fnmatch_lines([f"  inconclusive 1×: {said}"])
    llmperf(source, "--llmperf-strict").stdout.fnmatch_lines(
        [f"red under --llmperf-strict: {said}"]
    )


@pytest.mark.parametrize(("most", "failed"), [(1.5, 0), (0.5, 1)])
def test_memory_is_a_ratio_too(llmperf: Run, most: float, failed: int) -> None:
    result = llmperf(f"""
def test_arms(compare):
    compare({{"ram_mib": 64}}, {{"ram_mib": 64}}, max_memory_ratio={most}, {BOTH})
""")
    result.assert_outcomes(passed=1 - failed, failed=failed)


def test_what_one_arm_gets_wrong_is_invalid_and_named(llmperf: Run) -> None:
    result = llmperf(f"""
def test_arms(compare):
    compare({{"missing_tokens": 1}}, {{}}, min_speedup=1, {BOTH})
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["comparison invalid: A (missing_tokens 1): *"])


def test_a_crash_of_an_arm_is_red_with_its_last_words(llmperf: Run) -> None:
    result = llmperf(f"""
def test_arms(compare):
    compare({{}}, {{"disaster": "sigsegv"}}, {BOTH})
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*killed by SIGSEGV during decode*"])


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("min_speedup=0", "min_speedup must be a number greater than 0, not 0"),
        ("min_speedup=True", "min_speedup must be a number greater than 0, not True"),
        ('min_speedup="2"', "min_speedup must be a number greater than 0, not '2'"),
        ("max_memory_ratio=True", "max_memory_ratio must be a number greater than 0, not True"),
        ("max_memory_ratio=0", "max_memory_ratio must be a number greater than 0, not 0"),
        ("max_memory_ratio=-0.5", "max_memory_ratio must be a number greater than 0, not -0.5"),
        (
            'max_memory_ratio=float("nan")',
            "max_memory_ratio must be a number greater than 0, not nan",
        ),
        ("max_memory_ratio='1%'", "max_memory_ratio must be a number greater than 0, not '1%'"),
        ('max_slowdown="much"', "max_slowdown must read like*"),
        ("min_speedpu=1.1", "compare: unknown keyword 'min_speedpu', did you mean 'min_speedup'?"),
        (
            "promt_tokens=8",
            "compare: unknown keyword 'promt_tokens', did you mean 'prompt_tokens'?",
        ),
        ("decode_tsp=8", "backend fake has no option 'decode_tsp', did you mean 'decode_tps'?*"),
        ('metric="speed"', "compare: there is no metric 'speed'; the usual is 'decode_tps'"),
        ("batch=0", "batch must be a whole number of at least 1, not 0"),
    ],
)
def test_a_mistake_is_named_before_anything_is_measured(
    llmperf: Run, argument: str, said: str
) -> None:
    result = llmperf(faster(argument))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([said])


def test_an_engine_that_is_not_here_skips(llmperf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmperf.worker.loading.installed_version", lambda backend: None)
    llmperf(faster()).assert_outcomes(skipped=1)


def test_a_comparison_crosses_xdist_and_stands_in_the_file(
    llmperf: Run, pytester: pytest.Pytester
) -> None:
    llmperf(faster("min_speedup=1.02"), "-n", "1", "--llmperf-json=out.json")
    (test,) = json.loads((pytester.path / "out.json").read_text())["tests"]
    (compared,) = test["comparisons"]
    assert (test["verdict"], compared["verdict"]) == ("PASSED", "PASSED")
    assert len(compared["a"]) == len(compared["b"]) == compared["pairs"]


def test_off_it_skips(llmperf: Run) -> None:
    llmperf(faster(), off=True).assert_outcomes(skipped=1)
