"""Does `pytest-llmperf report` tell of the files it is given, and GitHub what it can take?"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.cli import main
from pytest_llmperf.cli.report import COMMENT_BYTES
from pytest_llmperf.report.github import SUMMARY
from pytest_llmperf.report.github_summary import MOST_BYTES
from pytest_llmperf.report.result import read_json, write_json
from tests.runner import commands_in
from tests.unit.report.test_github_summary import OVER, PASSED
from tests.unit.report.test_result import one_test, run_result


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A run with a red test and a green one."""
    red = msgspec.structs.replace(
        one_test(OVER, test="tests/a.py::red", outcome="failed", reason="perf budget broken"),
        file="sub/tests/a.py",
        line=7,
    )
    green = one_test(PASSED, test="tests/a.py::green")
    run = msgspec.structs.replace(run_result(tmp_path / "machine"), tests=[red, green], notes=[])
    write_json(run, tmp_path / "a.json")
    return tmp_path / "a.json"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a job's summary."""
    monkeypatch.setenv(SUMMARY, str(tmp_path / "summary.md"))
    return tmp_path / "summary.md"


def test_a_terminal_shows_the_table(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(result)]) == 0
    said = capsys.readouterr().out
    assert "OVER_BUDGET" in said
    assert "2 measurements, 2 budgets judged: 1 passed, 1 over budget" in said
    assert max(map(len, said.splitlines())) <= 80


def test_two_machines_are_told_apart_and_together(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = json.loads(result.read_text())
    other["hardware"]["fingerprint"] = "there"
    (tmp_path / "b.json").write_text(json.dumps(other))
    assert main(["report", str(result), str(tmp_path / "b.json")]) == 0
    said = capsys.readouterr().out
    assert "together: 2 of 4 tests red: 2 over budget, 2 passed" in said


def test_github_gets_a_summary_and_annotations(
    result: Path, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page.write_text("of others\n")
    assert main(["report", str(result), "--github"]) == 0
    told = page.read_text()
    assert told.startswith("of others\n## llmperf: 1 of 2 tests red: 1 over budget, 1 passed")
    assert capsys.readouterr().out == (
        "::error file=sub/tests/a.py,line=7,title=llmperf%3A OVER_BUDGET::red: perf budget broken\n"
    )


def test_a_page_for_a_comment_is_written(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(result), "--markdown", str(tmp_path / "comment.md")]) == 0
    told = (tmp_path / "comment.md").read_text()
    assert told.startswith("## llmperf: 1 of 2 tests red: 1 over budget, 1 passed\n")
    assert capsys.readouterr().out == ""


def test_a_page_of_thousands_of_tests_is_no_larger_than_a_comment(
    result: Path, tmp_path: Path
) -> None:
    read = read_json(result)
    tests = [msgspec.structs.replace(read.tests[1], test=f"t.py::t{n}") for n in range(2000)]
    write_json(msgspec.structs.replace(read, tests=tests), result)
    assert main(["report", str(result), "--markdown", str(tmp_path / "comment.md")]) == 0
    told = (tmp_path / "comment.md").read_text()
    assert COMMENT_BYTES - 500 < len(told.encode()) <= COMMENT_BYTES
    assert "more lines, for which a summary has no room" in told.splitlines()[-1]


def test_a_summary_for_a_comment_that_cannot_be_written_says_so(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(result), "--markdown", str(tmp_path)]) == 4
    assert "cannot be written: Is a directory" in flat(capsys)


def test_a_program_gets_the_verdict_in_a_word(
    result: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(result), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "verdict": "OVER_BUDGET",
        "headline": "1 of 2 tests red: 1 over budget, 1 passed",
    }


def test_what_others_wrote_is_no_command_in_a_job(
    result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = "no GPU\n::error::planted\n##[error]planted"
    read = read_json(result)
    skipped = msgspec.structs.replace(read.tests[1], outcome="skipped", reason=planted)
    write_json(msgspec.structs.replace(read, tests=[skipped]), result)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["report", str(result)]) == 0
    said = capsys.readouterr().out
    assert "planted" in said
    assert commands_in(said) == []


def test_without_a_job_the_summary_is_printed(
    result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(SUMMARY, raising=False)
    assert main(["report", str(result), "--github"]) == 0
    assert "## llmperf: 1 of 2 tests red" in capsys.readouterr().out


def test_a_summary_that_is_nearly_full_says_so(
    result: Path, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page.write_text("x" * (MOST_BYTES - 50))
    assert main(["report", str(result), "--github"]) == 4
    assert f"holds {MOST_BYTES - 50} bytes of the {MOST_BYTES}" in flat(capsys)
    assert page.stat().st_size == MOST_BYTES - 50


def test_a_summary_that_cannot_be_written_says_so(
    result: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(SUMMARY, str(tmp_path))
    assert main(["report", str(result), "--github"]) == 4
    told = capsys.readouterr()
    assert "::error file=sub/tests/a.py" in told.out, "annotations come all the same"
    assert "::warning title=llmperf::no summary: " in told.out
    assert f"{SUMMARY}=" in told.err


@pytest.mark.parametrize(
    ("content", "exit_code", "why"),
    [
        (b"{", 4, "no result of --llmperf-json"),
        (b'{"format": "pytest-llmperf-result", "version": 99}', 4, "this release reads"),
        (None, 4, "cannot be read: No such file"),
    ],
)
def test_what_is_no_result_is_named(
    content: bytes | None,
    exit_code: int,
    why: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "other.json"
    if content is not None:
        path.write_bytes(content)
    assert main(["report", str(path)]) == exit_code
    assert why in flat(capsys)


def test_a_page_is_written(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "new" / "report.html"
    assert main(["report", str(result), "--html", str(page)]) == 0
    told = capsys.readouterr()
    assert told.err.split() == ["written:", str(page)]
    assert told.out == ""
    text = page.read_text(encoding="utf-8")
    assert "<title>✕ llmperf: 1 of 2 tests red: 1 over budget, 1 passed</title>" in text


def test_a_page_of_what_is_no_result_is_not_written(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    result.write_bytes(result.read_bytes()[:-100])
    assert main(["report", str(result), "--html", str(page)]) == 4
    assert "no result of --llmperf-json" in flat(capsys)
    assert not page.exists()


def test_a_page_that_cannot_be_written_says_so(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["report", str(result), "--html", str(tmp_path / "file" / "report.html")]) == 4
    assert "the page cannot be written: " in flat(capsys)


@pytest.mark.parametrize(
    ("url", "exit_code", "why"),
    [
        ("sqlite:///{}/none.db", 3, "there is no sqlite:///"),
        ("nonsense", 4, "'nonsense': this is no database URL"),
    ],
)
def test_a_history_that_is_none_says_so(
    result: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    url: str,
    exit_code: int,
    why: str,
) -> None:
    page = tmp_path / "report.html"
    words = ["report", str(result), "--html", str(page), "--history", url.format(tmp_path)]
    assert main(words) == exit_code
    assert why in flat(capsys)
    assert not page.exists()


def test_a_history_is_for_a_page(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(result), "--history", "sqlite:///h.db"]) == 2
    assert "--history is for --html" in flat(capsys)


def test_a_page_without_its_parts_names_the_line_that_installs_them(
    result: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("pytest_llmperf.report.html.writing._PARTS", {"no_such": "no-such"})
    assert main(["report", str(result), "--html", str(tmp_path / "report.html")]) == 2
    assert 'needs no-such: pip install "pytest-llmperf[html]"' in flat(capsys)


def test_results_that_overlap_are_refused(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "copy.json").write_bytes(result.read_bytes())
    assert main(["report", str(result), str(tmp_path / "copy.json")]) == 2
    assert "tests/a.py::red is in" in flat(capsys)
    assert main(["report", str(result), str(result)]) == 2
    assert "a file is given twice" in flat(capsys)


def flat(capsys: pytest.CaptureFixture[str]) -> str:
    """What was complained about, without folds."""
    return " ".join(capsys.readouterr().err.split())
