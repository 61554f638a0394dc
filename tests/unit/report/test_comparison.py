"""Is a comparison told in 80 columns, with the value beside its limit?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report import words
from pytest_llmperf.report.comparison import comparison_line, comparison_text
from pytest_llmperf.report.result import Comparison, RatioCheck
from tests.unit.gate.test_contract import measurement
from tests.unit.report.test_result import laptop

SEEN = measurement(decode_tps=20.0)


def compared(*checks: RatioCheck, **changes: Any) -> Comparison:
    found = Comparison(
        name="1",
        metric="decode_tps",
        label_a="A (quantization Q4_K_M)",
        label_b="B (quantization Q8_0)",
        ratio=1.0204,
        low=1.011,
        high=1.0299,
        pairs=4,
        memory_ratio=0.61,
        verdict=checks[0].verdict if checks else None,
        checks=list(checks),
        invalid=None,
        a=[SEEN],
        b=[SEEN],
    )
    return msgspec.structs.replace(found, **changes)


def broken(text: str) -> RatioCheck:
    return RatioCheck(text=text, verdict=Verdict.OVER_BUDGET, reason="")


def text_of(*all_of: Comparison, strict: bool = False) -> list[str]:
    return comparison_text(all_of, strict=strict).splitlines()


def test_the_whole_text(tmp_path: Path) -> None:
    machine = laptop(tmp_path)
    other = msgspec.structs.replace(SEEN, version="2", steady=False, findings=["it was late"])
    red = compared(broken("min_speedup=1.1"), b=[other, SEEN])
    assert comparison_text([red], machine, strict=False).splitlines() == [
        "perf comparison broken: A is 1.02 × B < min_speedup=1.1",
        "  ratio      decode 1.02, 1.01–1.03 by 4 pairs; memory 0.61 ×",
        "  arms       A (quantization Q4_K_M), B (quantization Q8_0)",
        "  engine     A: fake 1, llama-160m",
        "  engine     B: fake 2, llama-160m",
        *words.folded(f"  machine    {words.machine(machine)}", 13),
        "  state      1 of 3 not steady",
        "  note       it was late",
    ]


@pytest.mark.parametrize(
    ("limit", "changes", "said"),
    [
        ("min_speedup=1.1", {}, "A is 1.02 × B < min_speedup=1.1"),
        ("min_speedup=1.02", {"ratio": 1.0196}, "A is 1.0196 × B < min_speedup=1.02"),
        ("max_slowdown=0.05", {"ratio": 0.9}, "A is slower than B by 0.1 > max_slowdown=0.05"),
        ("max_memory_ratio=0.5", {}, "A takes 0.61 × B's memory > max_memory_ratio=0.5"),
    ],
)
def test_the_first_line_has_the_value_as_its_limit_counts_it(
    limit: str, changes: dict[str, Any], said: str
) -> None:
    assert text_of(compared(broken(limit), **changes))[0] == f"perf comparison broken: {said}"


def test_what_is_undecided_is_red_under_strict_alone() -> None:
    reason = "min_speedup=1: not decided by 10 pairs"
    check = RatioCheck(text="min_speedup=1", verdict=Verdict.INCONCLUSIVE, reason=reason)
    assert text_of(compared(check)) == []
    assert text_of(compared(check), strict=True)[0] == f"red under --llmperf-strict: {reason}"


def test_an_arm_that_was_invalid_is_named_and_folded() -> None:
    why = "A (missing_tokens 1): 7 tokens generated, 8 asked for " * 3
    nothing: dict[str, Any] = {"ratio": None, "low": None, "high": None, "b": []}
    red = compared(invalid=why.strip(), verdict=Verdict.INVALID, **nothing)
    lines = text_of(red)
    assert lines[0].startswith("comparison invalid: A (missing_tokens 1): 7 tokens")
    assert lines[-2:] == ["  engine     A: fake 1, llama-160m", "  state      steady"]
    assert max(map(len, lines)) <= 80


def test_a_line_names_its_test_and_folds_before_what_is_less_wanted() -> None:
    assert comparison_line(compared(), "tests/test_quant.py::test_faster").splitlines() == [
        "tests/test_quant.py::test_faster: decode: A (quantization Q4_K_M) is 1.02 × B",
        "  (quantization Q8_0)",
        "  1.01–1.03 by 4 pairs; memory 0.61 ×",
    ]


def test_a_line_of_what_was_invalid_says_why() -> None:
    line = comparison_line(compared(ratio=None, invalid="B (x 1) has no decode_tps: no idea"))
    assert " ".join(line.split()) == (
        "decode: A (quantization Q4_K_M) against B (quantization Q8_0): B (x 1) has no "
        "decode_tps: no idea"
    )
