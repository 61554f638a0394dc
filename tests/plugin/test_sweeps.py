"""Do parametrized tests become a series: in the terminal, in the file, and under xdist?"""

from __future__ import annotations

import json

import pytest

from tests.plugin.conftest import Run

SWEEP = """
SPEEDS = {1: 100.0, 2: 190.0, 4: 195.0}

@pytest.mark.perf(min_tps=1)
@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_threads(load_model, measure, n_threads):
    measure(load(load_model, decode_tps=SPEEDS[n_threads]), prompt_tokens=8, new_tokens=8)
"""


@pytest.mark.parametrize("how", [(), ("-n", "2")])
def test_a_sweep_is_told_with_its_knee(
    llmperf: Run, pytester: pytest.Pytester, how: tuple[str, ...]
) -> None:
    result = llmperf(SWEEP, "--llmperf-json=out.json", *how)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "test_threads: by n_threads",
            "  n_threads  decode  prefill *",
            "  1           100* *",
            "  decode: knee at 2: +2.6 % from 2 to 4",
            "  prefill: no gain from 1 on: * from 1 to 4",
        ]
    )
    tests = json.loads((pytester.path / "out.json").read_text())["tests"]
    assert sorted(test["parameters"]["n_threads"] for test in tests) == [1, 2, 4]


def test_any_parameter_can_be_written_down(llmperf: Run, pytester: pytest.Pytester) -> None:
    result = llmperf(
        """
class Bad:
    def __repr__(self):
        raise RuntimeError

VALUES = [
    10**40, float("nan"), "\\ud800", object(), Bad(), [1], None, True, 0.5, 10**400, "at 0x1"
]

@pytest.mark.perf(min_tps=1)
@pytest.mark.parametrize("value", VALUES, ids=map(str, range(len(VALUES))))
def test_it(load_model, measure, record_property, value):
    record_property("told", value)
    record_property("\\udc80", 1)
    record_property(value, "named")
    measure(load(load_model), prompt_tokens=8, new_tokens=8)
""",
        "--llmperf-json=out.json",
    )
    result.assert_outcomes(passed=11)
    tests = json.loads((pytester.path / "out.json").read_text())["tests"]
    assert [test["parameters"]["value"] for test in tests] == [
        1e40, "nan", "\\ud800", "<object object>", "Bad", "[1]", None, True, 0.5,
        "1" + 400 * "0", "at 0x1",
    ]  # fmt: skip
    told = [test["told"] for test in tests]
    names = [
        f"1{40 * '0'}", "nan", "\\ud800", "<object object>", "Bad", "[1]", "None", "True", "0.5",
        f"1{400 * '0'}", "at 0x1",
    ]  # fmt: skip
    assert told == [{"told": name, "\\udc80": "1", name: "named"} for name in names]
