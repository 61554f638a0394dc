"""Do properties survive execnet, which takes builtin types only?"""

from __future__ import annotations

import execnet
import msgspec

from pytest_llmperf.report.junit import properties
from tests.unit.gate.test_contract import measurement
from tests.unit.report.test_result import judge_it

SEEN = measurement(decode_tps=19.123456, mbu=0.71, ttft=1234567)


def test_a_verdict_and_every_median_with_its_unit() -> None:
    assert properties([judge_it(SEEN, min_tps=30)]) == [
        ("llmperf.verdict", "OVER_BUDGET"),
        ("llmperf.decode_tps", "19.1235 tok/s"),
        ("llmperf.mbu", "0.71"),
        ("llmperf.ttft", "1.23457e+06 ms"),
    ]


def test_several_measurements_are_told_apart_by_name() -> None:
    named = [msgspec.structs.replace(SEEN, name=name) for name in ("short", "long")]
    names = [name for name, _ in properties([judge_it(each) for each in named])]
    assert len(set(names)) == len(names)
    assert {"llmperf.short.verdict", "llmperf.long.verdict", "llmperf.long.mbu"} <= set(names)


def test_nothing_but_builtin_types() -> None:
    found = properties([judge_it(SEEN)])
    assert {type(part) for pair in found for part in pair} == {str}
    assert execnet.loads(execnet.dumps(found)) == found


def test_nothing_measured_has_no_properties() -> None:
    assert properties([]) == []
