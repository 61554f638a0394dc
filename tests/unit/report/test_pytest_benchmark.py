"""Does pytest-benchmark read what is exported, and does it say the same?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.measure.quantity import summarize
from pytest_llmperf.report.pytest_benchmark import to_pytest_benchmark
from pytest_llmperf.report.result import RunResult
from tests.unit.gate.test_contract import measurement
from tests.unit.report.test_result import judge_it, laptop, one_test, run_result

SPEEDS = [20.0, 25.0, 40.0, 50.0, 100.0]


@pytest.fixture
def result(tmp_path: Path) -> RunResult:
    """One test with five samples of decode, one of prefill, and RAM."""
    seen = measurement(prefill_tps=500, ram=1.5)
    metrics = {**seen.metrics, "decode_tps": summarize(SPEEDS, "tok/s")}
    seen = msgspec.structs.replace(seen, metrics=metrics)
    test = one_test(judge_it(seen), test="tests/test_chat.py::test_chat[Q4_K_M]")
    whole = run_result(tmp_path / "machine")
    return msgspec.structs.replace(whole, hardware=laptop(tmp_path / "laptop"), tests=[test])


def exported(result: RunResult, commit: str | None = None) -> dict[str, Any]:
    """As a file would hold it."""
    read: dict[str, Any] = json.loads(json.dumps(to_pytest_benchmark(result, commit)))
    return read


def test_speeds_become_seconds_per_token(result: RunResult) -> None:
    decode, prefill = exported(result)["benchmarks"]
    assert (decode["name"], decode["group"]) == ("test_chat[Q4_K_M] decode", "decode_tps")
    assert decode["fullname"] == "tests/test_chat.py::test_chat[Q4_K_M] decode"
    assert decode["param"] == "Q4_K_M"
    stats = decode["stats"]
    assert stats["data"] == [0.05, 0.04, 0.025, 0.02, 0.01]
    assert (stats["min"], stats["median"], stats["max"]) == (0.01, 0.025, 0.05)
    assert stats["mean"] == pytest.approx(0.029)
    assert stats["stddev"] == pytest.approx(0.015968719)
    assert (stats["q1"], stats["q3"], stats["iqr"]) == pytest.approx((0.02, 0.04, 0.02))
    assert (stats["rounds"], stats["iterations"]) == (5, 1)
    assert stats["outliers"] == "2;0"
    assert prefill["stats"]["mean"] == pytest.approx(0.002)
    assert prefill["stats"]["stddev"] == 0


def test_several_measurements_of_a_test_have_names_of_their_own(result: RunResult) -> None:
    first = result.tests[0].measurements[0]
    other = msgspec.structs.replace(first.measurement, name="warm")
    second = msgspec.structs.replace(first, measurement=other)
    test = one_test(first, second, test=result.tests[0].test)
    names = [
        each["fullname"].partition("] ")[2]
        for each in exported(msgspec.structs.replace(result, tests=[test]))["benchmarks"]
    ]
    assert names == ["1 decode", "1 prefill", "warm decode", "warm prefill"]


def test_what_is_invalid_is_left_out(result: RunResult) -> None:
    broken = msgspec.structs.replace(result.tests[0].measurements[0], verdict=Verdict.INVALID)
    nothing = msgspec.structs.replace(result, tests=[one_test(broken)])
    assert exported(nothing)["benchmarks"] == []


def test_machine_and_commit_are_named_and_the_host_is_not(result: RunResult) -> None:
    told = exported(result, "0123abc")
    assert told["commit_info"]["id"] == "0123abc"
    assert exported(result)["commit_info"]["id"] == "unversioned"
    assert told["machine_info"]["node"] == result.hardware.fingerprint
    assert told["datetime"] == "2026-11-20T12:00:00+00:00"


def test_every_field_of_the_real_format_is_there(result: RunResult, tmp_path: Path) -> None:
    (tmp_path / "test_real.py").write_text("def test_real(benchmark): benchmark(sum, [1])\n")
    arguments = ["-m", "pytest", "-q", "-p", "no:llmperf", "--benchmark-json=real.json"]
    quick = ["--benchmark-max-time=0.01", "--benchmark-min-rounds=3"]
    ours_not = {name: each for name, each in os.environ.items() if not name.startswith("PYTEST_")}
    subprocess.run(
        [sys.executable, *arguments, *quick], cwd=tmp_path, env=ours_not, check=True, timeout=60
    )
    real = json.loads((tmp_path / "real.json").read_text(encoding="utf-8"))
    ours = exported(result)
    assert real.keys() == ours.keys()
    assert real["commit_info"].keys() == ours["commit_info"].keys()
    there, here = real["benchmarks"][0], ours["benchmarks"][0]
    assert there.keys() == here.keys()
    assert there["stats"].keys() <= here["stats"].keys()


def test_its_compare_command_reads_the_file(result: RunResult, tmp_path: Path) -> None:
    paths = []
    for commit in ("0001_before", "0002_after"):
        paths.append(tmp_path / f"{commit}.json")
        paths[-1].write_text(json.dumps(to_pytest_benchmark(result, commit)), encoding="utf-8")
    asked = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", *paths],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Failed to load" not in asked.stdout + asked.stderr
    rows = [line for line in asked.stdout.splitlines() if line.startswith("test_chat")]
    assert len(rows) == 4
    assert "benchmark 'decode_tps': 2 tests" in asked.stdout
    assert any("29.0000" in row for row in rows)
