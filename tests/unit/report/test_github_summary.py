"""Does a job's page say the verdict first, everything once, and no more than there is room for?"""

from __future__ import annotations

import dataclasses
import html
import re
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.gate.suite import SuiteShift
from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report.annotations import annotate
from pytest_llmperf.report.github import SUMMARY, append_summary
from pytest_llmperf.report.github_summary import MOST_BYTES, headline, summary
from pytest_llmperf.report.markdown import LONGEST
from pytest_llmperf.report.merged import Machine, merge
from pytest_llmperf.report.result import JudgedTest
from tests.unit.gate.test_contract import measurement
from tests.unit.report.many_results import a_comparison
from tests.unit.report.test_result import judge_it, one_test, run_result

PASSED = judge_it(measurement(decode_tps=30, ram=1.5), min_tps=20)
OVER = judge_it(measurement(decode_tps=19), min_tps=20)
OPEN = judge_it(measurement(decode_tps=30), max_vram_gb=6)


def machines(root: Path, *tests: JudgedTest) -> list[Machine]:
    result = msgspec.structs.replace(run_result(root), tests=list(tests), notes=[])
    return merge({"a.json": result})


def test_the_verdict_comes_first(tmp_path: Path) -> None:
    red = one_test(OVER, outcome="failed", reason="perf budget broken: decode 19 < min_tps=20")
    broken = one_test(test="t.py::broken", outcome="error", reason="KeyError: 'x'")
    skipped = one_test(test="t.py::gpu", outcome="skipped", reason="needs a GPU, has none")
    told = summary(machines(tmp_path, one_test(PASSED), red, broken, skipped))
    first = told.splitlines()[0]
    assert first == (
        "## llmperf: 2 of 4 tests red: 1 over budget, 1 failed otherwise, 1 passed, 1 skipped"
    )
    rows = [line for line in told.splitlines() if line.startswith("| **")]
    assert [row.split("**")[1] for row in rows] == ["OVER_BUDGET", "PASSED"], "the worst first"
    assert r"perf budget broken: decode 19 &lt; min\_tps=20" in rows[0]
    assert "| 19.0 |" in rows[0]
    assert "| t.py::broken | KeyError: 'x' |" in told
    assert "| needs a GPU, has none | 1 |" in told


def test_green_is_green(tmp_path: Path) -> None:
    assert headline(machines(tmp_path, one_test(PASSED))) == "green: 1 passed"


def ended(root: Path, *tests: JudgedTest, **ending: object) -> list[Machine]:
    result = msgspec.structs.replace(run_result(root), tests=list(tests), notes=[])
    return merge({"a.json": msgspec.structs.replace(result, **ending)})


def test_a_run_that_broke_off_is_not_green(tmp_path: Path) -> None:
    cut = {"interrupted": True, "selected": 50, "exit_status": 2}
    told = headline(ended(tmp_path, one_test(PASSED), **cut))
    assert told == "incomplete: 1 of 50 tests have a result, 1 passed"
    red = one_test(OVER, outcome="failed")
    told = headline(ended(tmp_path, red, **cut))
    assert told == "1 of 1 test red: 1 of 50 tests have a result, 1 over budget"


@pytest.mark.parametrize("status", [1, 3, 4])
def test_a_run_that_ended_red_by_something_else_is_not_green(status: int, tmp_path: Path) -> None:
    told = headline(ended(tmp_path, one_test(PASSED), selected=1, exit_status=status))
    assert told == f"red: 1 passed, exit status {status}"


def test_what_could_not_be_decided_is_not_green(tmp_path: Path) -> None:
    assert headline(machines(tmp_path, one_test(OPEN))) == "undecided: 1 inconclusive"


def test_nothing_measured_is_not_green(tmp_path: Path) -> None:
    skipped = one_test(outcome="skipped", reason="needs a GPU, has none")
    assert headline(machines(tmp_path, skipped)) == "nothing measured: 1 skipped"
    assert headline(machines(tmp_path)) == "nothing measured"


def test_a_suite_that_lost_is_red_and_says_how_much(tmp_path: Path) -> None:
    lost = SuiteShift(verdict=Verdict.REGRESSED, effect=-0.021, needed=-0.016, pairs=14, sessions=9)
    (machine,) = machines(tmp_path, one_test(PASSED))
    told = summary([dataclasses.replace(machine, suite_shifts=[lost])])
    assert told.startswith("## llmperf: red: 1 suite regressed, 1 passed\n")
    assert "- suite: regressed, −2.1 % over 14 metrics, red below −1.6 %" in told
    (annotation,) = annotate([dataclasses.replace(machine, suite_shifts=[lost])])
    assert str(annotation).startswith("::error title=llmperf%3A suite::regressed, −2.1 %25 over")


def test_a_test_that_is_there_twice_is_shown_twice(tmp_path: Path) -> None:
    told = summary(machines(tmp_path, one_test(PASSED), one_test(OPEN)))
    assert told.splitlines()[0] == "## llmperf: green: 1 inconclusive, 1 passed"


def test_a_name_of_4000_characters_is_cut(tmp_path: Path) -> None:
    long = "t.py::test_x[" + "|`<b>" * 800 + "]"
    red = one_test(OVER, test=long, outcome="failed", reason="💥" * 4000)
    found = machines(tmp_path, red)
    (row,) = [line for line in summary(found).splitlines() if line.startswith("| **")]
    assert len(row) < 6 * LONGEST * 2
    assert row.replace("\\|", "").count("|") == 5, "verdict, test, why, one number"
    assert "<b>" not in row
    (annotation,) = annotate(found)
    assert "\n" not in str(annotation)


def test_a_date_of_tomorrow_or_none_at_all_is_shown_as_it_is(tmp_path: Path) -> None:
    for created in ("2999-01-01T00:00:00+00:00", "", "yesterday"):
        (machine,) = machines(tmp_path, one_test(PASSED))
        told = summary([dataclasses.replace(machine, created=created)])
        assert told.startswith("## llmperf: green: 1 passed\n")
        assert f" {created[:10]} ".replace("  ", " ") in told.splitlines()[2]


def test_what_is_open_says_why(tmp_path: Path) -> None:
    told = summary(machines(tmp_path, one_test(OPEN)))
    assert "1 inconclusive" in told.splitlines()[0]
    assert r"max\_vram\_gb=6: vram was not measured" in told


def test_a_column_without_a_number_is_left_out(tmp_path: Path) -> None:
    told = summary(machines(tmp_path, one_test(PASSED)))
    assert "decode, tok/s" in told
    assert "RAM, GiB" in told
    assert "first token" not in told


@pytest.mark.parametrize("room", [600, 5000, MOST_BYTES])
def test_it_stays_within_the_room(room: int, tmp_path: Path) -> None:
    name = "test_" + "é" * 200
    tests = [one_test(PASSED, test=f"t.py::{name}[{number}]") for number in range(4000)]
    told = summary(machines(tmp_path, *tests), room)
    assert len(told.encode()) <= room
    assert told.startswith("## llmperf: green: 4000 passed")
    assert "more lines, for which a summary has no room" in told.splitlines()[-1]


def ratio(root: Path, verdict: Verdict | None, label: str) -> JudgedTest:
    compared = msgspec.structs.replace(a_comparison(label), verdict=verdict)
    outcome = "failed" if verdict is Verdict.OVER_BUDGET else "passed"
    test = one_test(test=f"t.py::{label}", outcome=outcome)
    return msgspec.structs.replace(test, verdict=verdict, comparisons=[compared])


def order(told: str, *names: str) -> list[str]:
    """``names`` in the order in which they stand there."""
    return sorted(names, key=told.index)


def test_what_fails_stands_before_what_does_not_of_any_kind_and_machine(tmp_path: Path) -> None:
    (first,) = machines(tmp_path / "a", one_test(PASSED, test="t.py::green-a"))
    tests = [
        one_test(PASSED, test="t.py::green-b"),
        ratio(tmp_path, None, "unlimited"),
        ratio(tmp_path, Verdict.PASSED, "fast"),
        ratio(tmp_path, Verdict.INCONCLUSIVE, "open"),
        ratio(tmp_path, Verdict.OVER_BUDGET, "slow"),
    ]
    (second,) = machines(tmp_path / "b", *tests)
    second = dataclasses.replace(second, strict=False)
    (third,) = machines(tmp_path / "c", one_test(test="t.py::broken", outcome="error"))
    told = summary([first, second, third])
    names = ["broken", "slow", "green-b", "open", "fast", "unlimited", "green-a"]
    assert order(told, *(f"t.py::{each}" for each in names)) == [f"t.py::{each}" for each in names]
    assert told.count("### ") == 3, "a part that follows its own needs no heading"


def test_what_is_cut_is_green(tmp_path: Path) -> None:
    greens = [one_test(PASSED, test=f"t.py::green-{number}") for number in range(99)]
    (first,) = machines(tmp_path / "a", *greens)
    (second,) = machines(tmp_path / "b", *greens, ratio(tmp_path, Verdict.OVER_BUDGET, "slow"))
    told = summary([first, second], 2000)
    assert "| **OVER_BUDGET** | t.py::slow |" in told
    assert "more lines, for which a summary has no room" in told


@pytest.mark.parametrize(("before", "begin"), [("x\n", ""), ("x", "\n")])
def test_it_begins_on_a_line_of_its_own_for_which_there_is_room(
    before: str, begin: str, tmp_path: Path
) -> None:
    page, found = tmp_path / "page.md", machines(tmp_path / "a", one_test(PASSED))
    environment = {SUMMARY: str(page)}
    page.write_text(before)
    append_summary(found, environment)
    assert page.read_text() == before + begin + summary(found)
    for more, is_whole in ((0, True), (1, False)):
        room = len((begin + summary(found)).encode())
        page.write_text("x" * (MOST_BYTES - room - len(before) + more) + before)
        append_summary(found, environment)
        assert page.stat().st_size <= MOST_BYTES
        assert page.read_text().endswith(summary(found)) is is_whole


def test_no_room_is_no_summary(tmp_path: Path) -> None:
    assert summary(machines(tmp_path, one_test(PASSED)), 100) == ""
    assert summary(machines(tmp_path, one_test(PASSED)), -5) == ""


def test_a_name_is_shown_and_never_run(tmp_path: Path) -> None:
    name = "t.py::test_x[</script><script>alert('|')</script> \"🐍\" `@all` #12]"
    told = summary(machines(tmp_path, one_test(PASSED, test=name)))
    assert "<script" not in told
    assert not re.search(r"@\w|#\d", html.unescape(told).replace("\\", ""))
    (row,) = [line for line in told.splitlines() if line.startswith("| **")]
    assert row.replace("\\|", "").count("|") == 6, "verdict, test, why, two numbers"


def test_a_test_that_failed_by_its_own_assertion_is_red_whatever_was_measured(
    tmp_path: Path,
) -> None:
    own = one_test(PASSED, outcome="failed", reason="assert 1 == 2")
    told = summary(machines(tmp_path, own))
    assert told.startswith("## llmperf: 1 of 1 test red: 1 failed otherwise\n")
    assert r"| tests/test\_chat.py::test\_chat | assert 1 == 2 |" in told
