"""Are the worst tests annotated, on their lines, in the form that GitHub reads?"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pytest_llmperf.report.annotations import MOST, Annotation, annotate
from tests.unit.report.test_github_summary import OPEN, OVER, PASSED, machines
from tests.unit.report.test_result import one_test


def test_it_is_a_workflow_command() -> None:
    told = Annotation("error", "a, b: c", "100 %\nsecond::line", "tests/test_x.py", 7)
    assert str(told) == (
        "::error file=tests/test_x.py,line=7,title=a%2C b%3A c::100 %25%0Asecond::line"
    )
    assert str(Annotation("warning", "llmperf", "x")) == "::warning title=llmperf::x"


def test_red_is_an_error_on_its_line_and_undecided_a_warning(tmp_path: Path) -> None:
    red = one_test(OVER, outcome="failed", reason="perf budget broken: decode 19 < min_tps=20")
    found = annotate(
        machines(
            tmp_path,
            one_test(PASSED, test="a.py::good"),
            msgspec.structs.replace(red, file="sub/tests/test_chat.py", line=12),
            one_test(OPEN, test="tests/b.py::open", file="sub/tests/b.py"),
        )
    )
    assert [(each.kind, each.file, each.line) for each in found] == [
        ("error", "sub/tests/test_chat.py", 12),
        ("warning", "sub/tests/b.py", None),
    ]
    assert found[0].message == "test_chat: perf budget broken: decode 19 < min_tps=20"
    assert "vram was not measured" in found[1].message


def test_of_many_the_worst_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    over = [one_test(OVER, test=f"t/a.py::t{n}", outcome="failed", reason="w") for n in range(30)]
    broken = one_test(test="t/a.py::broken", outcome="error", reason="KeyError")
    found = annotate(machines(tmp_path, *over, broken))
    assert len(found) == MOST
    assert found[0].message == "broken: KeyError"
    assert found[-1].message == "and 22 more: see the summary of the job"


def test_why_there_is_no_summary_is_among_the_ten_warnings(tmp_path: Path) -> None:
    undecided = [one_test(OPEN, test=f"t/a.py::t{number}") for number in range(MOST)]
    found = annotate(machines(tmp_path, *undecided), "no summary: the disk is full")
    assert len(found) == MOST
    assert found[0].message == "no summary: the disk is full"
    assert found[-1].message == "and 2 more", "there is no summary to be seen"


def test_ten_are_all_shown(tmp_path: Path) -> None:
    tests = [one_test(OVER, test=f"t/a.py::t{n}", outcome="failed", reason="w") for n in range(10)]
    assert len(annotate(machines(tmp_path, *tests))) == 10


def test_a_file_outside_of_the_checkout_has_no_place(tmp_path: Path) -> None:
    (found,) = annotate(machines(tmp_path, one_test(OPEN, test="test_smoke.py::test_it")))
    assert (found.file, found.line) == ("", None)


def test_one_that_failed_by_its_own_assertion_is_not_called_by_its_verdict(tmp_path: Path) -> None:
    own = one_test(PASSED, test="t/a.py::own", outcome="failed", reason="assert 1 == 2")
    over = one_test(OVER, test="t/a.py::over", outcome="failed", reason="perf budget broken")
    found = annotate(machines(tmp_path, over, own))
    assert [each.title for each in found] == ["llmperf: failed", "llmperf: OVER_BUDGET"]
