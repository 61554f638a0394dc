"""Do terminal, JSON, JUnit and pytest-xdist tell the same story?"""

import json
import os
import pty
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.report.html import writing
from pytest_llmperf.report.result import RunResult
from tests.plugin.conftest import Run

THREE = """
@pytest.mark.perf(min_tps=50, max_ram_gb=1)
def test_fast(load_model, measure):
    measure(load(load_model))

@pytest.mark.perf(min_tps=200)
def test_slow(load_model, measure):
    measure(load(load_model))

def test_unjudged(load_model, measure):
    measure(load(load_model))
"""


def read(path: Path) -> RunResult:
    return msgspec.json.decode(path.read_bytes(), type=RunResult)


def test_json_holds_every_number(llmperf: Run, pytester: pytest.Pytester) -> None:
    llmperf(THREE, "--llmperf-json=out/result.json")
    result = read(pytester.path / "out/result.json")
    assert [(test.test, test.outcome, test.verdict) for test in result.tests] == [
        ("test_it.py::test_fast", "passed", "PASSED"),
        ("test_it.py::test_slow", "failed", "OVER_BUDGET"),
        ("test_it.py::test_unjudged", "passed", "NO_BASELINE"),
    ]
    judged = result.tests[0].measurements[0]
    assert judged.measurement.decode_tps.median == pytest.approx(100)
    assert judged.measurement.prefill_tps.median == pytest.approx(1000)
    assert judged.measurement.ttft.median == pytest.approx(512)
    assert judged.measurement.load.median == pytest.approx(0.5)
    assert judged.measurement.ram.kind == "exact"
    assert [check.keyword for check in judged.checks] == ["min_tps", "max_ram_gb"]


@pytest.mark.parametrize("kind", ["json", "html"])
def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(
    llmperf: Run, kind: str
) -> None:
    result = llmperf(THREE, f"--llmperf-{kind}=/proc/none/file")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*--llmperf-{kind}='/proc/none/file': cannot be written: *"])
    assert "test_it.py" not in result.stdout.str()


@pytest.mark.parametrize("kind", ["json", "html"])
def test_a_file_that_can_no_longer_be_written_is_an_error_of_the_environment(
    llmperf: Run, pytester: pytest.Pytester, kind: str
) -> None:
    in_the_way = """
import pathlib

@pytest.fixture(autouse=True)
def in_the_way():
    pathlib.Path(".out.tmp").mkdir(exist_ok=True)
"""
    result = llmperf(in_the_way + THREE, f"--llmperf-{kind}=out")
    assert result.ret == 4
    result.stdout.fnmatch_lines([f"*--llmperf-{kind}: nothing was written: *"])
    assert not (pytester.path / "out").exists()


def test_a_page_that_cannot_be_made_is_told_before_anything_is_measured(
    llmperf: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_PARTS", {"no_such_part": "no-such-part"})
    result = llmperf(THREE, "--llmperf-html=out.html")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*--llmperf-html='out.html': needs no-such-part: pip install \"pytest-llmperf[[]html]\""]
    )
    assert "test_it.py" not in result.stdout.str()


def test_a_run_writes_its_page(llmperf: Run, pytester: pytest.Pytester) -> None:
    options = ["--llmperf-html=out/report.html", "--llmperf-history=sqlite:///h.db"]
    result = llmperf(THREE, *options, apart=True)  # the maker of charts is loaded once a process
    result.stdout.fnmatch_lines(["written: *report.html"])
    page = (pytester.path / "out/report.html").read_text(encoding="utf-8")
    told = read_from(llmperf, pytester)
    assert len(told.tests) == page.count('<details class="test"')
    for test in told.tests:
        assert f'data-test="{test.test}"' in page


def read_from(llmperf: Run, pytester: pytest.Pytester) -> RunResult:
    """The same tests' result."""
    llmperf(THREE, "--llmperf-json=same.json")
    return read(pytester.path / "same.json")


def test_xdist_gives_the_same_verdicts_and_one_table(
    llmperf: Run, pytester: pytest.Pytester
) -> None:
    alone = llmperf(THREE, "--llmperf-json=alone.json")
    split = llmperf(THREE, "-n", "2", "--llmperf-json=split.json")
    assert alone.ret == split.ret == 1

    def verdicts(name: str) -> list[tuple[str, str | None]]:
        return sorted((t.test, t.verdict) for t in read(pytester.path / name).tests)

    assert verdicts("alone.json") == verdicts("split.json")
    text = split.stdout.str()
    assert text.count("test / engine / model") == 1
    assert text.count("llmperf: 3 measurements, 3 budgets judged") == 1


@pytest.mark.parametrize("arguments", [[], ["-n", "2"]])
def test_junit_has_one_case_per_test_with_its_numbers(
    llmperf: Run, pytester: pytest.Pytester, arguments: list[str]
) -> None:
    llmperf(THREE, "--junit-xml=junit.xml", *arguments)
    cases = ET.parse(pytester.path / "junit.xml").getroot().findall(".//testcase")
    assert sorted(case.attrib["name"] for case in cases) == [
        "test_fast",
        "test_slow",
        "test_unjudged",
    ]
    slow = next(case for case in cases if case.attrib["name"] == "test_slow")
    properties = {p.attrib["name"]: p.attrib["value"] for p in slow.iter("property")}
    assert properties["llmperf.verdict"] == "OVER_BUDGET"
    assert properties["llmperf.decode_tps"] == "100 tok/s"


def test_nothing_is_wider_than_the_terminal(llmperf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = llmperf(THREE)
    table = result.stdout.str().partition("test / engine / model")[2].partition("llmperf:")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "≥ 200" in table
    assert "≤ 1" in table


def test_a_crash_is_told_with_signal_and_phase_and_the_next_test_passes(llmperf: Run) -> None:
    result = llmperf("""
def test_crash(load_model, measure):
    measure(load(load_model, disaster="sigsegv"))

@pytest.mark.perf(min_tps=50)
def test_next(load_model, measure):
    measure(load(load_model))
""")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        ["fake worker killed by SIGSEGV during decode (after 64 tokens) of warm-up 1", "log: *"]
    )


def test_logs_are_kept_under_the_runs_folder(llmperf: Run, pytester: pytest.Pytester) -> None:
    llmperf("""
def test_one(load_model, measure):
    measure(load(load_model, disaster="stderr"), prompt_tokens=4, new_tokens=4)
""")
    logs = list(pytester.path.glob(".pytest_cache/d/llmperf-runs/*/worker-000-fake.log"))
    assert len(logs) == 1
    assert "noise on stderr" in logs[0].read_text()


def test_only_so_many_runs_are_kept(llmperf: Run, pytester: pytest.Pytester) -> None:
    runs = pytester.path / ".pytest_cache/d/llmperf-runs"
    for number in range(25):
        (runs / f"19990101T0000{number:02}-1").mkdir(parents=True)
    llmperf(THREE)
    assert len(list(runs.iterdir())) == 20


def on_a_terminal(folder: Path, *arguments: str) -> str:
    """What a person sees: pytest's output on a pseudo-terminal of 80 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder, stdout=theirs, stderr=theirs, stdin=theirs, env=environment,
    ) as process:  # fmt: skip
        os.close(theirs)
        seen = bytearray()
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux says that the other side is closed
                break
            if not part:
                break
            seen += part
        process.wait()
    os.close(ours)
    return seen.decode()


def test_progress_shows_on_a_terminal_and_leaves_no_trace_in_captured_output(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        test_p="""
def test_one(load_model, measure, capfd):
    measure(load_model("fake:x", backend="fake"))
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")

def test_two(load_model, measure):
    measure(load_model("fake:x", backend="fake", ram_mib=1))
    print("only this was printed")
    raise ValueError
"""
    )
    seen = on_a_terminal(pytester.path, "--llmperf", "--capture=fd")
    assert "llmperf: fake loads fake:x" in seen
    back_to_the_dots = re.escape(f"\x1b[1A\r\x1b[{len('test_p.py ')}C")
    assert re.search(back_to_the_dots + r"(\x1b\[\d+m)*N", seen)
    section = seen.partition("Captured stdout call")[2].splitlines()
    assert section[1].strip() == "only this was printed"
    assert "llmperf:" not in section[2]


def test_without_a_terminal_there_is_no_line_in_a_short_run(llmperf: Run) -> None:
    llmperf(THREE).stdout.no_fnmatch_line("llmperf: fake fake:*")


def test_doctor_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    from pytest_llmperf.cli import main

    assert main(["doctor", "fake", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen["backends"][0]["status"] == "works"
    assert seen["hardware"]["cpu"]["usable_cores"] >= 1


def test_doctor_knows_its_backends(capsys: pytest.CaptureFixture[str]) -> None:
    from pytest_llmperf.cli import main

    assert main(["doctor", "nonsense"]) == 2
    assert "unknown backend 'nonsense'; known: llama-cpp" in capsys.readouterr().err
