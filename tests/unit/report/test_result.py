"""Is the JSON file whole, readable again, and what its schema says?"""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from pytest_llmperf.gate.budget import read_limits
from pytest_llmperf.gate.contract import judge_contract
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import ByteFigure, Measurement, MemoryUse
from pytest_llmperf.report.result import (
    FORMAT,
    VERSION,
    JudgedMeasurement,
    JudgedTest,  # pytest would collect Test…
    RunResult,
    judged,
    overall,
    schema,
    write_json,
)
from tests.unit.gate.test_contract import measurement
from tests.unit.hardware import trees

SCHEMA_FILE = Path(__file__).parents[3] / "docs" / "result.schema.json"


def laptop(root: Path) -> Hardware:
    """A constructed laptop with 16 cores and no GPU that runs models."""
    trees.laptop(root)
    return detect(root, host=trees.host("x86_64", 16))


def judge_it(
    seen: Measurement, confirmation: Measurement | None = None, /, **limits: object
) -> JudgedMeasurement:
    """What becomes of a measurement under these keywords of ``perf``."""
    fresh = [] if confirmation is None else [confirmation]
    return judged(seen, fresh, judge_contract(seen, read_limits(limits), confirmation), [])


def one_test(
    *measurements: JudgedMeasurement,
    test: str = "tests/test_chat.py::test_chat",
    file: str | None = None,
    outcome: str = "passed",
    reason: str | None = None,
) -> JudgedTest:
    return JudgedTest(
        test=test,
        file=file,
        outcome=outcome,
        verdict=overall(list(measurements)),
        measurements=list(measurements),
        reason=reason,
    )


def run_result(root: Path) -> RunResult:
    """A run with every kind of test in it."""
    seen = measurement(decode_tps=19, ttft=100, load=2, ram=1.5)
    figure = ByteFigure(bytes=3 << 29, kind="bound", how="é", low_bytes=1, slack_bytes=9)
    memory = MemoryUse(
        peak=figure,
        load=figure,
        prefill=None,
        decode=None,
        anon=None,
        file=None,
        pss=None,
        processes=2,
        unknown={"anon": "not told"},
    )
    seen = msgspec.structs.replace(seen, memory=memory, findings=["not steady"])
    again = msgspec.structs.replace(seen, invocation=1)
    return RunResult(
        format=FORMAT,
        version=VERSION,
        created="2026-11-20T12:00:00+00:00",
        llmperf="0.1.0",
        strict=True,
        hardware=laptop(root),
        tests=[
            one_test(judge_it(seen, again, min_tps=20, max_ttft_p95_ms=800, max_vram_gb=6)),
            one_test(judge_it(measurement(invalid="too few tokens"))),
            one_test(test="t::[日本語]", outcome="skipped", reason="needs a GPU, has none"),
        ],
        notes=["llama-cpp worker did not leave well"],
    )


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    result = run_result(tmp_path / "machine")
    write_json(result, tmp_path / "out.json")
    assert msgspec.json.decode((tmp_path / "out.json").read_bytes(), type=RunResult) == result


def test_the_file_names_its_format_and_version(tmp_path: Path) -> None:
    write_json(run_result(tmp_path / "machine"), tmp_path / "out.json")
    text = (tmp_path / "out.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    read = json.loads(text)
    assert (read["format"], read["version"]) == ("pytest-llmperf-result", 2)
    assert read["tests"][0]["measurements"][0]["verdict"] == "OVER_BUDGET"


def test_folders_are_made_old_results_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "out.json"
    result = run_result(tmp_path / "machine")
    write_json(result, path)
    write_json(msgspec.structs.replace(result, tests=[]), path)
    assert json.loads(path.read_text(encoding="utf-8"))["tests"] == []
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written_leaves_the_old_result_as_it_was(tmp_path: Path) -> None:
    (tmp_path / ".out.json.tmp").mkdir()
    (tmp_path / "out.json").write_text("old")
    with pytest.raises(OSError, match=r"\.out\.json\.tmp"):
        write_json(run_result(tmp_path / "machine"), tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == "old"


def test_a_written_result_meets_the_schema_in_docs(tmp_path: Path) -> None:
    write_json(run_result(tmp_path / "machine"), tmp_path / "out.json")
    published = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(published)
    validator.check_schema(published)
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    validator(published).validate(written)
    with pytest.raises(jsonschema.ValidationError, match="'FAST' is not valid"):
        validator(published).validate(
            {**written, "tests": [{**written["tests"][0], "verdict": "FAST"}]}
        )


def test_the_schema_in_docs_is_that_of_the_code() -> None:
    current = json.dumps(schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert SCHEMA_FILE.read_text(encoding="utf-8") == current, (
        f"write json.dumps(schema(), indent=2, sort_keys=True, ensure_ascii=False) and a line end "
        f"to {SCHEMA_FILE}; only ever add fields within version {VERSION}"
    )


def test_a_judged_measurement_holds_every_check_in_plain_values() -> None:
    seen = measurement(decode_tps=19, ttft=100)
    result = judge_it(seen, measurement(decode_tps=22, ttft=90), min_tps=20, max_ttft_p95_ms=800)
    assert result.verdict is Verdict.PASSED
    assert [msgspec.structs.astuple(check) for check in result.checks] == [
        ("min_tps", "decode_tps", None, 20.0, Verdict.PASSED, 19.0, 22.0, 20.5),
        ("max_ttft_p95_ms", "ttft", 95, 800.0, Verdict.PASSED, 100.0, None, 100.0),
    ]


def test_a_test_is_as_bad_as_its_worst_measurement() -> None:
    good, unjudged = judge_it(measurement(decode_tps=30), min_tps=20), judge_it(measurement())
    assert overall([good]) is Verdict.PASSED
    assert overall([unjudged, good]) is Verdict.NO_BASELINE
    assert overall([]) is None
