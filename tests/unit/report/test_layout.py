"""Does a JSON file say the same on fewer lines, whatever stands in its texts?"""

from __future__ import annotations

import json
import random
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report.layout import laid_out
from pytest_llmperf.report.result import read_json, write_json
from tests.unit.report.many_results import a_measurement, a_test
from tests.unit.report.test_result import run_result


def test_what_holds_no_object_stands_on_one_line() -> None:
    anything = {
        "values": [1.5, None, True],
        "earlier": [["2026-11-20T12:00", 19.1, 0, None], ["2026-11-21T12:00", 19.2, 0, "abc"]],
        "none": [],
        "tests": [{"reasons": ["a, b", "c"]}],
    }
    assert laid_out(anything).decode() == (
        "{\n"
        ' "values": [1.5,null,true],\n'
        ' "earlier": [["2026-11-20T12:00",19.1,0,null],["2026-11-21T12:00",19.2,0,"abc"]],\n'
        ' "none": [],\n'
        ' "tests": [\n'
        "  {\n"
        '   "reasons": ["a, b","c"]\n'
        "  }\n"
        " ]\n"
        "}\n"
    )


@pytest.mark.parametrize(
    "text",
    ["[ 1,  2 ]", '"[ 1,  2 ]"', "\\", '\\"[ 1 ]', "]", "[[", "{ [ 1 ]", "a\n[\n b ]", "é [ ]"],
)
@pytest.mark.parametrize("depth", range(5))
def test_no_text_is_changed(text: str, depth: int) -> None:
    anything: object = text
    for _ in range(depth):
        anything = [anything, 1, anything]
    whole = [{text: anything, "beside": [{"in": [anything, {}]}, [1, [2, [3]]]]}, text]
    assert json.loads(laid_out(whole)) == whole


def test_forty_sessions_take_less_than_six_thousand_bytes_a_test(tmp_path: Path) -> None:
    """Of three metrics; with a line for each number it would be twelve. All are read again."""
    sizes = []
    for sessions in (0, 40):
        chance = random.Random(1)
        seen = a_measurement(chance, "synthetic:llama-160m", "llama-cpp", "Q8_0")
        test = a_test(chance, "t.py::test_chat", seen, Verdict.PASSED, sessions=sessions)
        (judged,) = test.measurements
        assert [len(pair.earlier) for pair in judged.pairs] == [sessions] * 3
        result = msgspec.structs.replace(run_result(tmp_path), tests=[test])
        write_json(result, tmp_path / "out.json")
        assert read_json(tmp_path / "out.json") == result
        sizes.append((tmp_path / "out.json").stat().st_size)
    assert sizes[1] - sizes[0] < 6000
